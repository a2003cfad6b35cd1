"""Reference pictures: from what a request names to checked pixels.

`reference` says what is named, `reading` gets the bytes, `decoding` makes pixels of them. There they end: no model
takes a picture yet (`ModelInfo.takes_picture`), and a job has no place for one.
"""
