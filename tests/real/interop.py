#!/usr/bin/env python3
"""What Penstock writes, boto3 and obstore read, and the other way round: bytes, attributes, checksums of
every kind, keys that URLs, XML and shells would rather not see. On MinIO, versitygw and Ceph RGW."""
import base64
import hashlib
import json
import os
import random

import obstore

import support

# obstore takes this one over the endpoint that it is given.
os.environ.pop("AWS_ENDPOINT_URL_S3", None)

MIB = support.MIB
PART = 5 * MIB
SIZES = {"empty": 0, "byte": 1, "small": 70001, "mid": 8 * MIB + 1, "parts": 3 * PART + 17}

KEYS = ["plain", "with space", "plus+and%2B", "percent%41%", "question?mark=1&b", "hash#tag",
        "less<more>amp&amp;", "quotes\"'`", "umlaut-\u00fc-\u65e5\u672c-\U0001f600", "semi;colon:at@",
        "tilde~!*()$,", "back\\slash", "deep/er/and/deeper", " leading", "in[brackets]{braces}|^",
        "e\u0301 is two and \u00e9 is one", "x" * 200, "dots..and.more", "new\nline", "tab\tbed"]
# Kept apart by a store whose keys are bytes, as AWS's are. One that ends in a slash is a folder to the
# command.
FLAT_KEYS = ["a//b", "a/b", "dot/./x", "dot/x", "up/../x", "x", "/leading", "./y"]

CHECKSUMS = {"CRC32C": ("COMPOSITE", "FULL_OBJECT"), "CRC64NVME": ("FULL_OBJECT",),
             "SHA256": ("COMPOSITE",)}


def content(name, n):
    return random.Random(name).randbytes(n)


def crc32c(data):
    """By the witness's own library, not by ours."""
    from awscrt import checksums
    return checksums.crc32c(data)


def crc64nvme(data):
    from awscrt import checksums
    return checksums.crc64nvme(data)


def expected_sum(algorithm, data):
    raw = {"CRC32C": lambda: crc32c(data).to_bytes(4, "big"),
           "CRC64NVME": lambda: crc64nvme(data).to_bytes(8, "big"),
           "SHA256": lambda: hashlib.sha256(data).digest()}[algorithm]()
    return base64.b64encode(raw).decode()


class Interop:
    """The tests of one server; a mixin, so that unittest does not run it by itself."""

    keys_of_server = KEYS
    has_checksums = True
    tells_parts = True   # the checksums of an upload's parts
    tags_uploads = True  # those that an upload was begun with

    def obstore(self):
        more = {}
        if self.env.get("AWS_CA_BUNDLE"):
            more["certificate"] = self.env["AWS_CA_BUNDLE"]
        return obstore.store.S3Store(
            self.bucket, endpoint=self.endpoint, region=self.env["AWS_REGION"],
            access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True})

    def put(self, key, data, *args, **more):
        self.write("to-put", data)
        self.run_ok("put", "-q", *args, "to-put", self.s3_uri(key), **more)

    def get(self, key, *args):
        self.run_ok("get", "-q", *args, self.s3_uri(key), "got")
        return self.read("got")

    def facts(self, key):
        return json.loads(self.run_ok("stat", "--json", self.s3_uri(key)))

    # Bytes.

    def test_what_penstock_writes_others_read(self):
        store = self.obstore()
        for name, n in SIZES.items():
            data = content(name, n)
            self.put(name, data, "--part-size", "5MiB")
            self.assertEqual(self.body(name), data, name)
            self.assertEqual(bytes(obstore.get(store, name).bytes()), data, name)
        head = self.s3.head_object(Bucket=self.bucket, Key="parts")
        self.assertEqual(head["ETag"].strip('"').partition("-")[2], "4")

    def test_what_others_write_penstock_reads(self):
        store = self.obstore()
        for name, n in SIZES.items():
            data = content(name, n)
            self.s3.put_object(Bucket=self.bucket, Key=name, Body=data)
            self.assertEqual(self.get(name), data, name)
            obstore.put(store, name + ".o", data, chunk_size=PART)
            self.assertEqual(self.get(name + ".o"), data, name)
        data = content("multi", 2 * PART + 5)
        self.upload("multi", data)
        self.assertEqual(self.get("multi", "--part-size", "1MiB"), data)
        self.assertEqual(self.get("multi", "--offset", str(PART - 3), "--length", "7"),
                         data[PART - 3:PART + 4])

    def upload(self, key, data, create=None, part=None):
        """Parts of boto3's, with checksums as `create` and `part` say."""
        upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, **(create or {}))
        names = {"Bucket": self.bucket, "Key": key, "UploadId": upload["UploadId"]}
        parts = []
        for number, at in enumerate(range(0, len(data), PART), 1):
            done = self.s3.upload_part(PartNumber=number, Body=data[at:at + PART], **names,
                                       **(part or {}))
            parts.append({"PartNumber": number, "ETag": done["ETag"],
                          **{k: v for k, v in done.items() if k.startswith("Checksum")
                             and k != "ChecksumType"}})
        kind = (create or {}).get("ChecksumType")
        self.s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **names,
                                          **({"ChecksumType": kind} if kind else {}))

    # Keys.

    def test_keys_are_bytes_whoever_wrote_them(self):
        for number, key in enumerate(self.keys_of_server):
            ours, theirs = content(key, 100 + number), content(key, 200 + number)
            self.put("ours/" + key, ours)
            self.assertEqual(self.body("ours/" + key), ours, key)
            self.s3.put_object(Bucket=self.bucket, Key="theirs/" + key, Body=theirs)
            self.assertEqual(self.get("theirs/" + key), theirs, key)
        listed = self.run_ok("ls", "-r", "--null", self.s3_uri()).decode().split("\0")[:-1]
        wanted = [self.s3_uri(folder + key) for folder in ("ours/", "theirs/")
                  for key in self.keys_of_server]
        self.assertEqual(sorted(listed), sorted(wanted))
        self.assertEqual(sorted(self.keys()), sorted(k.removeprefix(self.s3_uri()) for k in wanted))
        self.run_ok("rm", "-q", *wanted)
        self.assertEqual(self.keys(), [])

    def test_the_bucket_may_stand_in_the_host_name(self):
        port = self.endpoint.rpartition(":")[2]
        domain = self.env["PST_SERVERS_VIRTUAL_DOMAIN"]
        self.env["AWS_ENDPOINT_URL_S3"] = f"http://{domain}:{port}"
        virtual = ("-o", "s3.addressing=virtual")
        data = content("virtual", 2 * PART)
        self.put("a/b c", data, "--part-size", "5MiB", *virtual)
        self.assertEqual(self.get("a/b c", *virtual), data)
        self.assertEqual(self.run_ok("ls", "-r", *virtual, self.s3_uri()).decode(),
                         self.s3_uri("a/b c") + "\n")
        self.assertEqual(self.body("a/b c"), data)

    # Attributes.

    def test_attributes_written_by_penstock(self):
        self.put("attr", b"x", "--content-type", "text/x-penstock; charset=utf-8", "--content-encoding",
                 "identity", "--cache-control", "max-age=60", "--meta", "job=42", "--meta",
                 "note=two words")
        self.put("big", content("big", PART + 1), "--part-size", "5MiB", "--content-type",
                 "application/x-big", "--meta", "job=43")
        head = self.s3.head_object(Bucket=self.bucket, Key="attr")
        self.assertEqual(head["ContentType"], "text/x-penstock; charset=utf-8")
        self.assertEqual(head["ContentEncoding"], "identity")
        self.assertEqual(head["CacheControl"], "max-age=60")
        self.assertEqual({k: v for k, v in head["Metadata"].items() if not k.startswith("penstock-")},
                         {"job": "42", "note": "two words"})
        head = self.s3.head_object(Bucket=self.bucket, Key="big")
        self.assertEqual((head["ContentType"], head["Metadata"]["job"]), ("application/x-big", "43"))

    def test_attributes_written_by_boto3(self):
        self.s3.put_object(Bucket=self.bucket, Key="attr", Body=b"12345", ContentType="text/x-boto",
                           ContentEncoding="identity", CacheControl="no-store",
                           ContentLanguage="de", ContentDisposition="attachment",
                           Metadata={"job": "44", "note": "two words"})
        facts = self.facts("attr")
        self.assertEqual(facts["size"], 5)
        self.assertEqual(facts["content_type"], "text/x-boto")
        self.assertEqual(facts["content_encoding"], "identity")
        self.assertEqual(facts["cache_control"], "no-store")
        self.assertEqual(facts["content_language"], "de")
        self.assertEqual(facts["content_disposition"], "attachment")
        self.assertEqual(facts["user_meta"], {"job": "44", "note": "two words"})
        head = self.s3.head_object(Bucket=self.bucket, Key="attr")
        self.assertEqual(facts["etag"], head["ETag"])

    def test_tags_written_by_penstock(self):
        for key, n in {"small": 10, **({"parts": PART + 1} if self.tags_uploads else {})}.items():
            self.put(key, content(key, n), "--part-size", "5MiB", "--tag", "a=1", "--tag",
                     "two words=x+y/z")
            tags = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
            self.assertEqual({tag["Key"]: tag["Value"] for tag in tags},
                             {"a": "1", "two words": "x+y/z"}, key)

    # Versions.

    def test_old_versions_and_markers_are_those_that_boto3_sees(self):
        self.s3.put_bucket_versioning(Bucket=self.bucket,
                                      VersioningConfiguration={"Status": "Enabled"})
        for text in (b"first", b"second", b"third"):
            self.put("object", text)
        self.run_ok("rm", "-q", self.s3_uri("object"))
        self.assertEqual(self.run_raw("cat", self.s3_uri("object")).returncode,
                         support.cli_support.NOT_FOUND)
        seen = self.s3.list_object_versions(Bucket=self.bucket)
        lines = self.run_ok("ls", "-r", "--versions", "--json", self.s3_uri()).splitlines()
        listed = [json.loads(line)["version"] for line in lines]
        self.assertEqual(sorted(listed), sorted(
            [entry["VersionId"] for entry in seen["Versions"] + seen["DeleteMarkers"]]))
        for entry in seen["Versions"]:
            ours = self.run_ok("cat", "--version-id", entry["VersionId"], self.s3_uri("object"))
            theirs = self.s3.get_object(Bucket=self.bucket, Key="object",
                                        VersionId=entry["VersionId"])["Body"].read()
            self.assertEqual(ours, theirs)
        marker = seen["DeleteMarkers"][0]["VersionId"]
        self.run_ok("rm", "-q", "--version-id", marker, self.s3_uri("object"))
        self.assertEqual(self.run_ok("cat", self.s3_uri("object")), b"third")

    def test_buckets_are_made_listed_and_deleted(self):
        name = self.bucket + "-more"
        self.run_ok("mb", "-q", f"s3://{name}")
        self.assertIn(name, [b["Name"] for b in self.s3.list_buckets()["Buckets"]])
        self.assertIn(f"s3://{name}/", self.run_ok("ls", "s3://").decode().splitlines())
        self.s3.put_object(Bucket=name, Key="in the way", Body=b"")
        self.assertEqual(self.run_raw("rb", f"s3://{name}").returncode,
                         support.cli_support.CONFLICT)
        self.run_ok("rm", "-q", f"s3://{name}/in the way")
        self.run_ok("rb", "-q", f"s3://{name}")
        self.assertNotIn(name, [b["Name"] for b in self.s3.list_buckets()["Buckets"]])

    # Checksums.

    def test_checksums_written_by_penstock(self):
        if not self.has_checksums:
            return
        for name, n in (("small", 70001), ("parts", 2 * PART + 9)):
            data = content(name, n)
            for algorithm in CHECKSUMS:
                key = f"{name}.{algorithm}"
                self.put(key, data, "--part-size", "5MiB", "-o", "s3.checksum=" + algorithm.lower())
                head = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
                found = head.get("Checksum" + algorithm)
                self.assertIsNotNone(found, (key, head))
                if head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in found:
                    self.assertEqual(found, expected_sum(algorithm, data), key)
                # boto3 verifies what it downloads, where a value is of the whole object.
                self.assertEqual(self.witness().get_object(Bucket=self.bucket, Key=key,
                                                           ChecksumMode="ENABLED")["Body"].read(),
                                 data)

    def witness(self):
        return support.client(self.server)

    def test_checksums_written_by_boto3(self):
        if not self.has_checksums:
            return
        data = content("whole", 70001)
        for algorithm in CHECKSUMS:
            key = f"whole.{algorithm}"
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, ChecksumAlgorithm=algorithm)
            self.check_verified(key, data, algorithm != "SHA256")
            told = {one["algorithm"]: one["value"] for one in self.facts(key)["sums"]}
            self.assertEqual(told.get(algorithm), self.hex_sum(algorithm, data))

    def test_checksums_of_uploads_by_boto3(self):
        if not self.has_checksums:
            return
        data = content("parts", 2 * PART + 9)
        for algorithm, kinds in CHECKSUMS.items():
            for kind in kinds:
                key = f"parts.{algorithm}.{kind}"
                self.upload(key, data, {"ChecksumAlgorithm": algorithm, "ChecksumType": kind},
                            {"ChecksumAlgorithm": algorithm})
                self.check_verified(key, data, algorithm != "SHA256" and
                                    (kind == "FULL_OBJECT" or self.tells_parts))

    def hex_sum(self, algorithm, data):
        return base64.b64decode(expected_sum(algorithm, data)).hex()

    def check_verified(self, key, data, can_be):
        """CRCs are compared with what was read, digests are not."""
        result = self.run_raw("get", "--verify", "--stats", "--json", self.s3_uri(key), "got")
        self.assertEqual(result.returncode, 0, (key, result.stderr))
        self.assertEqual(self.read("got"), data, key)
        facts = json.loads(result.stderr.splitlines()[-1])
        self.assertEqual(facts["not_verified"], 0 if can_be else 1, key)


class OnMinio(Interop, support.Case):
    server = "minio"


class OnVersitygw(Interop, support.Case):
    server = "versitygw"
    tells_parts = False


class OnCephRgw(Interop, support.Case):
    server = "ceph-rgw"
    keys_of_server = KEYS + FLAT_KEYS
    has_checksums = tags_uploads = False


if __name__ == "__main__":
    support.main()
