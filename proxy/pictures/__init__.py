"""Reference pictures: from what a request names to checked pixels.

`reference` says what is named; `reading` gets the bytes and has `pipeline.spec.picture` look at them. The bytes as they
came are kept beside the job, in the video store, and go to Triton with it.
"""
