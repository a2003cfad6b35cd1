"""The format of the image that a request of the Images API asks for."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("videos", sa.Column("image_format", sa.String(8)))


def downgrade() -> None:
    op.drop_column("videos", "image_format")
