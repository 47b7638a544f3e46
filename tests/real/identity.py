#!/usr/bin/env python3
"""Who the command is: roles and programs whose keys a store really checks (MinIO), the token service and
the metadata service as moto plays them, and nobody asked where keys are given."""
import os
import socket
import threading
import time

import support


class Listener:
    """A server that nobody should call: it counts connections and answers none."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.callers = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                self.callers.append(self.socket.accept()[0])
            except OSError:
                return

    def close(self):
        self.socket.close()
        for caller in self.callers:
            caller.close()


class Identity(support.Case):
    server = "minio"

    def setUp(self):
        super().setUp()
        self.s3.put_object(Bucket=self.bucket, Key="object", Body=b"12345")
        self.keys_given = {name: self.env.pop(name)
                           for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"):
            self.env.pop(name, None)
        self.env["HOME"] = self.top
        # Unless a test says otherwise there is no metadata service.
        self.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1"

    def aws_file(self, name, text):
        return self.write(".aws/" + name, text.encode())

    def write_base(self):
        self.aws_file("credentials",
                      f"[base]\naws_access_key_id = {self.keys_given['AWS_ACCESS_KEY_ID']}\n"
                      f"aws_secret_access_key = {self.keys_given['AWS_SECRET_ACCESS_KEY']}\n")

    def expect_object(self, *args, **more):
        self.assertEqual(self.run_ok("cat", *args, self.s3_uri("object"), **more), b"12345")

    def expect_error(self, says, *args, **more):
        result = self.run_raw("cat", *args, self.s3_uri("object"), **more)
        self.assertEqual((result.returncode, result.stdout), (support.cli_support.DENIED, b""))
        self.assertEqual(result.stderr.count(b"\n"), 1)
        self.assertIn(says, result.stderr.decode())

    # Keys that the store checks.

    def test_a_profile_with_keys(self):
        self.write_base()
        self.expect_object(env={"AWS_PROFILE": "base"})
        self.expect_object("-o", "profile=base", env={"AWS_ACCESS_KEY_ID": "AKIAOTHER",
                                                      "AWS_SECRET_ACCESS_KEY": "other"})

    def test_a_role_of_a_profile_reads_and_writes(self):
        self.write_base()
        self.aws_file("config", "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/x\n"
                                "source_profile = base\nduration_seconds = 900\n")
        env = {"AWS_PROFILE": "role", "AWS_ENDPOINT_URL_STS": self.endpoint}
        self.expect_object(env=env)
        self.write("new", b"by a role")
        self.run_ok("cp", self.path("new"), self.s3_uri("new"), env=env)
        self.assertEqual(self.body("new"), b"by a role")

    def test_a_role_of_the_options_with_keys_of_the_environment(self):
        self.expect_object("-o", "role_arn=arn:aws:iam::123456789012:role/x",
                           env={**self.keys_given, "AWS_ENDPOINT_URL_STS": self.endpoint})

    def test_a_role_that_the_service_refuses(self):
        self.aws_file("config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/x\n"
                                "source_profile = base\n[profile base]\n"
                                "aws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n")
        self.expect_error("role arn:aws:iam::123456789012:role/x by profile 'base': STS answered 403",
                          env={"AWS_ENDPOINT_URL_STS": self.endpoint})

    def test_a_program_that_prints_keys(self):
        script = os.fsdecode(self.write("keys", b"#!/bin/sh\n"
            b"printf '{\"Version\": 1, \"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"%s\"}' \"$1\" \"$2\"\n"))
        os.chmod(script, 0o700)
        self.aws_file("config", f"[default]\ncredential_process = {script} "
                                f"'{self.keys_given['AWS_ACCESS_KEY_ID']}' "
                                f"\"{self.keys_given['AWS_SECRET_ACCESS_KEY']}\"\n")
        self.expect_object()

    def test_temporary_keys_need_their_token(self):
        session = support.client("minio", "sts").assume_role(
            RoleArn="arn:aws:iam::123456789012:role/x", RoleSessionName="test")["Credentials"]
        env = {"AWS_ACCESS_KEY_ID": session["AccessKeyId"],
               "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"]}
        self.expect_object(env={**env, "AWS_SESSION_TOKEN": session["SessionToken"]})
        result = self.run_raw("cat", self.s3_uri("object"), env=env)
        self.assertEqual(result.returncode, support.cli_support.DENIED, result.stderr)

    # Services that moto plays. Its S3 checks no signature, but who has no keys does not get that far.

    def moto(self, **more):
        endpoint = os.environ["PST_MOTO_ENDPOINT"]
        return {"AWS_ENDPOINT_URL_S3": endpoint, "AWS_ENDPOINT_URL_STS": endpoint, **more}

    def test_the_role_of_an_instance(self):
        self.run_ok("ls", "s3://", env=self.moto(
            AWS_EC2_METADATA_SERVICE_ENDPOINT=os.environ["PST_MOTO_ENDPOINT"]))

    def test_a_web_identity(self):
        token = self.write("token", b"eyJhbGciOiJub25lIn0.e30.\n")
        self.run_ok("ls", "s3://", env=self.moto(
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/x",
            AWS_WEB_IDENTITY_TOKEN_FILE=os.fsdecode(token)))

    def test_a_chain_of_two_roles(self):
        self.aws_file("config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/b\n"
                                "source_profile = a\n"
                                "[profile a]\nrole_arn = arn:aws:iam::123456789012:role/a\n"
                                "source_profile = base\n"
                                "[profile base]\naws_access_key_id = AKIAX\naws_secret_access_key = x\n")
        self.run_ok("ls", "s3://", env=self.moto())

    # Nobody is asked in vain.

    def test_given_keys_ask_no_service_and_read_no_file(self):
        listener = Listener()
        self.addCleanup(listener.close)
        os.mkdir(self.path(".aws"))
        os.mkfifo(self.path(".aws", "credentials"))  # who reads it waits, or sees nothing
        os.mkfifo(self.path(".aws", "config"))
        env = {**self.keys_given, "AWS_EC2_METADATA_SERVICE_ENDPOINT": listener.url,
               "AWS_CONTAINER_CREDENTIALS_FULL_URI": listener.url + "/keys",
               "AWS_PROFILE": "nobody", "AWS_ENDPOINT_URL_STS": listener.url}
        self.expect_object(env=env)
        self.expect_object(*(word for name, value in self.keys_given.items()
                             for word in ("-o", f"{name[4:].lower()}={value}")),
                           env={k: v for k, v in env.items() if k not in self.keys_given})
        self.assertEqual(listener.callers, [])

    def test_a_silent_metadata_service_costs_two_seconds(self):
        listener = Listener()
        self.addCleanup(listener.close)
        began = time.monotonic()
        self.expect_error("EC2 metadata: " + listener.url + " does not answer",
                          env={"AWS_EC2_METADATA_SERVICE_ENDPOINT": listener.url})
        self.assertLess(time.monotonic() - began, 8)  # a machine at work
        self.assertGreaterEqual(len(listener.callers), 1)

    def test_everything_that_was_looked_for_is_named(self):
        self.expect_error("no credentials: tried options: access_key_id is not set; environment: "
                          "AWS_ACCESS_KEY_ID is not set; web identity: ")


if __name__ == "__main__":
    support.main()
