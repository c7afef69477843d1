"""What the buckets of the clouds share; it knows no cloud.

- `bucket`: the driver itself, which says what serves a call and what is checked around it.
- `service`: what a vendor's driver brings to it, which is the calls of the vendor's own client.
- `plane`, `stores`: the fast way by `obstore`, for the calls that it serves as that client would.
- `attempts`, `failures`: errors in the words of the call, and what is tried again.
- `hidden_keys`, `listing`, `metadata`, `descriptions`: how stores carry what they cannot, and list and describe it.
"""
