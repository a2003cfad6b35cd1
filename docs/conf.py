"""The site that `make docs` makes of these pages. Pages are plain Markdown, which forges show as
well.
"""

project = "triton-video"
extensions = ["myst_parser"]
html_show_copyright = False
myst_heading_anchors = 4  # links to headings, as forges make them
