"""What the tests against real servers share. They run below tests/servers/up, which says in the
environment where the servers are; its python3 has boto3, the independent witness."""
import os
import sys
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import cli_support  # noqa: E402

try:
    import boto3
    import botocore.config
    import botocore.exceptions
except ImportError:
    print("skipped: no boto3 (tests/servers/install)")
    sys.exit(77)

BINARY = os.environ["PST_TEST_BINARY"]
MIB = 1 << 20


def client(server, service="s3", **more):
    """boto3 for the server of this name, as tests/servers/up called it in the environment."""
    prefix = "PST_" + server.upper().replace("-", "_")
    config = botocore.config.Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 8, "mode": "standard"},
        # What a server does not know it must not be sent.
        request_checksum_calculation="when_required", response_checksum_validation="when_required")
    return boto3.client(service, endpoint_url=os.environ[prefix + "_ENDPOINT"],
                        verify=os.environ.get(prefix + "_CA_FILE"), config=config, **more)


def code_of(error):
    return error.response["Error"]["Code"]


def uploads(s3, bucket):
    """The unfinished uploads. MinIO goes on listing some that were finished or aborted: asked for their
    parts it knows better."""
    found = []
    for entry in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        try:
            s3.list_parts(Bucket=bucket, Key=entry["Key"], UploadId=entry["UploadId"])
            found.append(entry)
        except botocore.exceptions.ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise
    return found


class Case(cli_support.Case):
    """A bucket of its own on `server`, for boto3 and, through the environment, for the command."""
    server = "minio"

    def setUp(self):
        super().setUp()
        prefix = "PST_" + self.server.upper().replace("-", "_")
        self.endpoint = os.environ[prefix + "_ENDPOINT"]
        self.env["AWS_ENDPOINT_URL_S3"] = self.endpoint
        self.env.pop("AWS_CA_BUNDLE", None)
        if prefix + "_CA_FILE" in os.environ:
            self.env["AWS_CA_BUNDLE"] = os.environ[prefix + "_CA_FILE"]
        self.s3 = client(self.server)
        self.bucket = "t-" + uuid.uuid4().hex[:20]
        self.s3.create_bucket(Bucket=self.bucket)

    def s3_uri(self, key=""):
        return f"s3://{self.bucket}/{key}"

    def keys(self):
        return [entry["Key"] for page in
                self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
                for entry in page.get("Contents", ())]

    def body(self, key):
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()


main = cli_support.main
