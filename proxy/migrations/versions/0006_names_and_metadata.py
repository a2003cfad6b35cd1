"""The model's name in the request where it is not the model's own, and the request's metadata."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("videos", sa.Column("model_alias", sa.String(255)))
    op.add_column("videos", sa.Column("metadata", sa.Text))


def downgrade() -> None:
    op.drop_column("videos", "metadata")
    op.drop_column("videos", "model_alias")
