"""What the buckets of the clouds share: the fast data plane over `obstore`, and how they carry what a cloud cannot.

It knows no cloud. A bucket's driver brings the stores and its vendor's error codes, and asks it for the calls that
obstore serves as the vendor's own client would; every other call goes through that client.
"""
