"""A database: SQLAlchemy, and messages that leave with its commits. Run it: python examples/with_database.py."""

import sqlalchemy as sa

import portable

tables = sa.MetaData()
orders = sa.Table("orders", tables, sa.Column("id", sa.Integer, primary_key=True), sa.Column("item", sa.String(40)))

with portable.connect() as cloud:
    main = cloud.database("main")
    with main.begin() as connection:
        tables.create_all(connection)
        connection.execute(orders.insert().values(item="a teapot"))
        main.outbox(connection).send("shipping", "pack a teapot")
    main.relay(until_empty=True)
    for message in cloud.queue("shipping").receive(wait=5):
        print(message.body.decode())
        message.ack()
