"""Reference pictures: from what a request names to checked pixels.

`parsing` says what is named; `reading` gets the bytes and has `pipeline.media.reference_image` look
at them. The bytes as they came are kept beside the job, in the video store, and go to Triton with
it.
"""
