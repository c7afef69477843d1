"""A topic: every subscription gets its own copy of an event. Run it: python examples/with_topic.py."""

import portable

with portable.connect() as cloud:
    mailer = cloud.subscription("mailer", topic="orders")
    mailer.receive(wait=0)  # the first use makes it; it gets what is published from then on
    cloud.topic("orders").publish(b"order 17 is paid", attributes={"type": "order.paid"})
    for message in mailer.receive(wait=5):
        with message:  # acknowledged at the end, given back on an exception
            print(message.attributes["type"], message.body.decode())
