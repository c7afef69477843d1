"""A stream: records in order that stay, and consumer groups that resume. Run it: python examples/with_stream.py."""

import portable

with portable.connect() as cloud:
    clicks = cloud.stream("clicks")
    for page in ("/", "/shop", "/shop/cart"):
        clicks.append(page, key="visitor-7")  # one key, one partition: in order
    with clicks.consumer("dashboard") as consumer:
        for record in consumer.poll(timeout=5):
            print(record.key, record.data.decode())
        consumer.commit()  # the next consumer of the group goes on here
