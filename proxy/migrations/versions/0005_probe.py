"""A row that readiness probes write, since a probe that only reads succeeds on a full disk."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    probe = op.create_table(
        "probe",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("writes", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(probe, [{"number": 1, "writes": 0}])


def downgrade() -> None:
    op.drop_table("probe")
