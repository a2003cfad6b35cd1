"""The last frame of a video, and the video that it edits or extends."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("videos", sa.Column("last_frame", sa.String(255)))
    op.add_column("videos", sa.Column("input_video", sa.String(255)))
    op.add_column("videos", sa.Column("source_frames", sa.Integer))
    op.add_column("videos", sa.Column("source_video", sa.String(64)))


def downgrade() -> None:
    for name in ("source_video", "source_frames", "input_video", "last_frame"):
        op.drop_column("videos", name)
