#!/usr/bin/env python3
"""What a user sees when something is wrong: one line, the same that docs/s3.md shows, and no secret in it
nor in any line of the log.

  errors.py --write   puts the lines of this run into docs/s3.md
"""
import json
import os
import re
import socket
import sys

import support

sys.path.insert(0, os.path.join(support.cli_support.SOURCE, "tests/lib"))
import faults  # noqa: E402

DOCUMENT = os.path.join(support.cli_support.SOURCE, "docs/s3.md")
BEGIN, END = "<!-- errors: tests/real/errors.py --write -->\n", "<!-- end of errors -->\n"


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Errors(support.Case):
    server = "minio"

    # (what is wrong, exit code), in the order of the table.
    CASES = [
        ("no credentials anywhere", 4),
        ("wrong access key", 4),
        ("wrong secret key", 4),
        ("wrong session token", 4),
        ("object denied by policy", 4),
        ("missing bucket", 3),
        ("missing object", 3),
        ("wrong region", 0),  # put right once
        ("endpoint is no S3 server", 3),
        ("closed port", 5),
        ("unknown host", 5),
        ("untrusted certificate", 5),
        ("https to an http port", 5),
        ("throttled", 5),
        ("archived object", 6),
        ("profile that is not there", 4),
        ("option that is not there", 2),
    ]

    def setUp(self):
        super().setUp()
        self.s3.put_object(Bucket=self.bucket, Key="object", Body=b"12345")
        self.uri_of_object = self.s3_uri("object")
        self.limited = support.client("minio", "sts").assume_role(
            RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="penstock",
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]}))["Credentials"]

    # How to get it wrong: environment, arguments and URI of `penstock cat`.

    def session(self, **more):
        return {"AWS_ACCESS_KEY_ID": self.limited["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": self.limited["SecretAccessKey"],
                "AWS_SESSION_TOKEN": self.limited["SessionToken"], **more}

    def wrong(self, what):
        env, args, uri = {}, [], self.uri_of_object
        endpoint = "AWS_ENDPOINT_URL_S3"
        if what == "no credentials anywhere":
            env = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
        elif what == "wrong access key":
            env = {"AWS_ACCESS_KEY_ID": "AKIAWRONGWRONGWRONG0"}
        elif what == "wrong secret key":
            env = {"AWS_SECRET_ACCESS_KEY": "0123456789wrong0123456789wrong0123456789"}
        elif what == "wrong session token":
            env = self.session(AWS_SESSION_TOKEN="wrong" + self.limited["SessionToken"])
        elif what == "object denied by policy":
            env = self.session()
        elif what == "missing bucket":
            uri = "s3://no-such-bucket/object"
        elif what == "missing object":
            uri = self.s3_uri("no such object")
        elif what == "wrong region":
            env = {"AWS_REGION": "eu-central-7", "AWS_DEFAULT_REGION": "eu-central-7"}
        elif what == "endpoint is no S3 server":
            env = {endpoint: os.environ["PST_TOXIPROXY_ENDPOINT"]}
        elif what == "closed port":
            env = {endpoint: f"http://127.0.0.1:{closed_port()}"}
        elif what == "unknown host":
            env = {endpoint: "http://no-such-host.invalid"}
        elif what == "untrusted certificate":
            env = {endpoint: os.environ["PST_MINIO_TLS_ENDPOINT"]}
        elif what == "https to an http port":
            env = {endpoint: self.endpoint.replace("http:", "https:")}
        elif what == "throttled":
            env = {endpoint: self.faulty_endpoint("throttled")}
        elif what == "archived object":
            env = {endpoint: self.faulty_endpoint("archived")}
        elif what == "profile that is not there":
            env = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None,
                   "AWS_PROFILE": "nobody"}
        elif what == "option that is not there":
            args = ["-o", "endpont=http://x"]
        return env, args, uri

    def faulty_endpoint(self, fault):
        """A store that answers everything so."""
        server = faults.FaultServer("s3")
        self.addCleanup(server.close)
        server.set_faults({"on": "*", "times": 0, "fault": fault})
        return "http://" + server.address

    def see(self, what, *more):
        env, args, uri = self.wrong(what)
        base = {k: v for k, v in {**self.env, **env}.items() if v is not None}
        saved, self.env = self.env, base
        try:
            return self.run_raw("cat", *more, *args, uri)
        finally:
            self.env = saved

    def general(self, line):
        """Without what is another one in each run."""
        line = line.replace(self.bucket, "bucket").replace(self.env["AWS_ACCESS_KEY_ID"], "AKIAEXAMPLE")
        line = line.replace(self.limited["AccessKeyId"], "ASIAEXAMPLE")
        line = re.sub(r"(127\.0\.0\.1|localhost):\d+", r"\1:9000", line)
        line = re.sub(r"\b(request(?: id)?[ :=]+)[0-9A-Z]{16}\b", r"\g<1>17C2D04FA3B59E11", line)
        return re.sub(r"OpenSSL/[0-9.]+", "OpenSSL/3.0", line)

    def row(self, what, result):
        line = self.general(result.stderr.decode().rstrip("\n"))
        return f"| {what} | {result.returncode} | `{line.replace('|', chr(92) + '|')}` |\n"

    def rows(self):
        rows = []
        for what, _ in self.CASES:
            rows.append(self.row(what, self.see(what)))
        return rows

    # Tests.

    def test_each_is_one_line_that_the_documentation_shows(self):
        with open(DOCUMENT, encoding="utf-8") as f:
            documented = f.read().partition(BEGIN)[2].partition(END)[0].splitlines(keepends=True)[2:]
        for what, code in self.CASES:
            result = self.see(what)
            self.assertLessEqual(result.stderr.count(b"\n"), 1, result.stderr)
            if code is not None:
                self.assertEqual(result.returncode, code, (what, result.stderr))
            self.assertIn(self.row(what, result), documented, what)
        self.assertEqual(len(documented), len(self.CASES))

    def test_no_secret_is_in_any_log(self):
        secrets = [self.env["AWS_SECRET_ACCESS_KEY"], self.limited["SecretAccessKey"],
                   self.limited["SessionToken"], "0123456789wrong0123456789wrong0123456789"]
        n_lines = 0
        for what, _ in self.CASES:
            result = self.see(what, "-vv")
            text = (result.stderr + result.stdout).decode("utf-8", "replace")
            n_lines += text.count("\n")
            for secret in secrets:
                self.assertNotIn(secret, text, what)
            self.assertIsNone(re.search(r"Signature=[0-9a-f]{64}", text), what)
        good = self.run_raw("cat", "-vv", self.uri_of_object)
        self.assertEqual((good.returncode, good.stdout), (0, b"12345"))
        self.assertNotIn(secrets[0].encode(), good.stderr)
        url = self.run_raw("presign", self.uri_of_object)
        self.assertIn(b"X-Amz-Signature=", url.stdout)  # which is what it is for
        self.assertNotIn(secrets[0].encode(), url.stdout)
        self.assertGreater(n_lines, len(self.CASES))


def write():
    case = Errors("test_each_is_one_line_that_the_documentation_shows")
    case.setUp()
    rows = case.rows()
    with open(DOCUMENT, encoding="utf-8") as f:
        before, _, rest = f.read().partition(BEGIN)
    after = rest.partition(END)[2]
    with open(DOCUMENT, "w", encoding="utf-8") as f:
        f.write(before + BEGIN + "| what is wrong | exit | line |\n|---|---|---|\n" + "".join(rows) +
                END + after)
    case.doCleanups()
    sys.stdout.writelines(rows)


if __name__ == "__main__":
    write() if sys.argv[1:] == ["--write"] else support.main()
