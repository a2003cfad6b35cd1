"""Alembic's entry: runs the migrations on the connection that `proxy.jobs.database` hands over."""

from alembic import context

from proxy.jobs.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
