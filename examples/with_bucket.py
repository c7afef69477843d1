"""A bucket: objects under keys. Run it: python examples/with_bucket.py."""

import portable

with portable.connect() as cloud:  # no portable.toml: the embedded default, under .portable/
    photos = cloud.bucket("photos")
    photos.put("cats/tom.txt", b"a cat", content_type="text/plain", metadata={"mood": "sleepy"})
    photos.put("cats/kit.txt", b"a kitten")
    with photos.open("cats/tom.txt") as reader:
        print(reader.read().decode(), reader.info.metadata)
    for entry in photos.list("cats/"):
        print(entry.key)
