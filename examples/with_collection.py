"""A collection: documents by key, atomic changes, queries. Run it: python examples/with_collection.py."""

import portable

with portable.connect() as cloud:
    users = cloud.collection("users")
    users.put({"id": "ada", "city": "London", "logins": 1})
    users.put({"id": "bob", "city": "London", "logins": 5})
    document = users.update("ada", increment={"logins": 1}, set={"address.street": "Main"})
    users.put({**document.data, "city": "Paris"}, if_revision=document.revision)  # nobody changed it meanwhile
    for found in users.where("city", "==", "London", allow_scan=True):  # an index in portable.toml needs no scan
        print(found.key, found.data["logins"])
