# ruff: noqa: INP001 (a program that the service runs, no module of ours)
"""Writes an object and sends a message, reads both back, and removes what it made."""

import sys

import boto3

NAME = "portable-probe"

s3 = boto3.client("s3", endpoint_url=sys.argv[1])
s3.create_bucket(Bucket=NAME)
s3.put_object(Bucket=NAME, Key="key", Body=b"works")
found = s3.get_object(Bucket=NAME, Key="key")["Body"].read()
s3.delete_object(Bucket=NAME, Key="key")
s3.delete_bucket(Bucket=NAME)

sqs = boto3.client("sqs", endpoint_url=sys.argv[1])
url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
sqs.send_message(QueueUrl=url, MessageBody="works")
messages = sqs.receive_message(QueueUrl=url)["Messages"]
sqs.delete_queue(QueueUrl=url)

sys.stdout.write("works\n" if found == b"works" and messages[0]["Body"] == "works" else "something else came back\n")
