"""Leases are counted beats, not times; turns between owners outlive the videos; expired videos
are found by index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_column("videos", "lease_until")
    op.add_column(
        "videos", sa.Column("lease_beats", sa.Integer, nullable=False, server_default="0")
    )
    op.create_index("videos_by_expiry", "videos", ["expires_at"])
    op.create_table(
        "turns",
        sa.Column("owner", sa.String(64), primary_key=True),
        sa.Column("turn", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("turns")
    op.drop_index("videos_by_expiry", "videos")
    op.drop_column("videos", "lease_beats")
    op.add_column("videos", sa.Column("lease_until", sa.Float))
