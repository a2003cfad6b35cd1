"""The most memory that the process which denoised a video has used."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("videos", sa.Column("peak_memory_bytes", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("videos", "peak_memory_bytes")
