"""The suites of the async face; the sync ones beside this folder are generated from them."""
