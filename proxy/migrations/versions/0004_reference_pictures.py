"""The key of the picture that a video begins from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("videos", sa.Column("picture", sa.String(255)))


def downgrade() -> None:
    op.drop_column("videos", "picture")
