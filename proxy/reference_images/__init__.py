"""Reference images: from the field of a request to checked pixels.

`parsing` reads what the field names. `reading` gets the bytes, and `pipeline.media.reference_image`
decodes them. The original bytes are kept beside the job, in the video store, and go to Triton with
it.
"""
