#!/usr/bin/env python3
"""Credentials over the wire: the token service, the metadata service and a container's service as
tests/servers/faults declares them, with and without faults, in front of a declared S3 store. What each
source makes of each answer is tested case by case in plugins/s3/tests; here it is the real http/1."""
import os
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.environ["PST_TEST_SOURCE"], "tests/lib"))
sys.path.insert(0, os.path.join(os.environ["PST_TEST_SOURCE"], "tests/integration"))
import cli_support  # noqa: E402
import faults  # noqa: E402


class Credentials(cli_support.Case):
    def setUp(self):
        super().setUp()
        self.env = {k: v for k, v in self.env.items()
                    if not re.match(r"AWS_|(https?|all|no)_proxy$", k, re.I)}
        self.store = self.serve("s3")
        self.store.put("kit-bucket/object", b"12345")
        self.env.update(HOME=self.top, AWS_REGION="us-east-1",
                        AWS_ENDPOINT_URL_S3="http://" + self.store.address,
                        AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1")

    def serve(self, name):
        server = faults.FaultServer(name)
        self.addCleanup(server.close)
        return server

    def cat(self):
        return self.run_raw("cat", "s3://kit-bucket/object")

    def expect_object(self, access_key):
        """The object, and the store was asked for it by this key."""
        result = self.cat()
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"12345", b""))
        headers = str(self.store.log()[-1])
        self.assertIn(f"Credential={access_key}/", headers)

    def expect_error(self, code, says):
        result = self.cat()
        self.assertEqual((result.returncode, result.stdout), (code, b""), result.stderr)
        self.assertIn(says, result.stderr.decode())
        for secret in ("role-secret", "imds-secret", "task-secret", "base-secret", "-token"):
            self.assertNotIn(secret, result.stderr.decode())

    def routes(self, server):
        return [entry["route"] for entry in server.log()]

    # The instance.

    def use_imds(self):
        imds = self.serve("imds")
        self.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://" + imds.address
        return imds

    def test_imds_by_token(self):
        imds = self.use_imds()
        self.expect_object("ASIAIMDS1")
        self.assertEqual(self.routes(imds), ["token", "roles", "keys"])

    def test_imds_without_tokens(self):
        imds = self.use_imds()
        imds.set_faults({"on": "token", "times": 0, "fault": "no_tokens"})
        self.expect_object("ASIAIMDS1")
        self.assertEqual(self.routes(imds), ["token", "roles-v1", "keys-v1"])

    def test_imds_that_loses_a_connection_is_asked_again(self):
        imds = self.use_imds()
        imds.set_faults({"on": ["token", "roles", "keys"], "nth": 1, "fault": {"cut": {"at": "in_head"}}},
                        {"on": "keys", "nth": 1, "fault": {"cut": {"at": "body", "bytes": 20}}})
        self.expect_object("ASIAIMDS2")

    def test_imds_that_hangs_costs_two_tries_of_a_second(self):
        imds = self.use_imds()
        imds.set_faults({"on": "token", "times": 0, "fault": {"stall": {"at": "before_head"}}})
        began = time.monotonic()
        self.expect_error(4, "EC2 metadata: http://" + imds.address + " does not answer")
        self.assertLess(time.monotonic() - began, 10)  # two seconds, and a busy machine
        self.assertEqual(self.routes(imds), ["token", "token"])

    def test_imds_without_a_role(self):
        self.use_imds().set_faults({"on": "roles", "times": 0, "fault": "no_role"})
        self.expect_error(4, "EC2 metadata: the instance has no role")

    def test_metadata_services_know_no_proxy(self):
        self.use_imds()
        port = self.store.address.rpartition(":")[2]
        self.env.update(http_proxy="http://127.0.0.1:1", no_proxy="localhost",
                        AWS_ENDPOINT_URL_S3="http://localhost:" + port)
        self.expect_object("ASIAIMDS1")

    # Containers.

    def use_container(self, path="/task"):
        container = self.serve("container")
        self.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{container.address}{path}"
        return container

    def test_container(self):
        self.use_container()
        self.expect_object("ASIATASK1")

    def test_container_with_a_token_in_a_file(self):
        container = self.use_container("/pod")
        self.env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = os.fsdecode(
            self.write("token", b"pod-token\n"))
        self.expect_object("ASIATASK1")
        self.write("token", b"stale")
        self.expect_error(4, "the platform answered 403: the token is not one of these")
        self.assertEqual(self.routes(container), ["pod", "pod-denied"])

    def test_container_that_is_out_of_order_for_a_moment(self):
        container = self.use_container()
        container.set_faults({"on": "task", "times": 2, "fault": "unavailable"})
        self.expect_object("ASIATASK3")

    def test_container_that_answers_in_chunks_and_slowly(self):
        self.use_container().set_faults(
            {"on": "task", "fault": {"chunked": True, "drip": {"bytes": 16, "every_ms": 5}}})
        self.expect_object("ASIATASK1")

    def test_container_whose_redirect_is_not_followed(self):
        container = self.use_container()
        container.set_faults({"on": "task", "times": 0, "fault": "redirect"})
        self.expect_error(4, "container credentials: the platform answered 302")
        self.assertEqual(self.routes(container), ["task"])

    def test_container_that_talks_too_much_or_nonsense(self):
        container = self.use_container()
        container.set_faults({"on": "task", "times": 0, "fault": {"extend": 200000,
                                                                  "content_length": "none"}})
        self.expect_error(7, "container credentials: ")
        container.set_faults({"on": "task", "times": 0, "fault": {"garbage": True}})
        self.expect_error(5, "container credentials: ")

    def test_a_token_that_the_store_calls_expired_is_fetched_anew_once(self):
        container = self.use_container()
        self.store.set_faults({"on": "get", "fault": "expired"})
        self.expect_object("ASIATASK2")
        self.assertEqual(len(container.log()), 2)
        container.forget_log()
        self.store.set_faults({"on": "get", "times": 0, "fault": "expired"})
        self.expect_error(4, "ExpiredToken")
        self.assertEqual(len(container.log()), 2)

    # Roles.

    def use_role(self):
        sts = self.serve("sts")
        self.env["AWS_ENDPOINT_URL_STS"] = "http://" + sts.address
        self.write(".aws/config", b"[default]\nrole_arn = arn:aws:iam::123456789012:role/r\n"
                                  b"source_profile = base\n[profile base]\n"
                                  b"aws_access_key_id = AKIABASE\n"
                                  b"aws_secret_access_key = base-secret\n")
        return sts

    def test_role(self):
        sts = self.use_role()
        self.expect_object("ASIAROLE1")
        self.assertIn("Credential=AKIABASE/", str(sts.log()[0]))

    def test_web_identity(self):
        sts = self.use_role()
        self.env.update(AWS_ROLE_ARN="arn:aws:iam::123456789012:role/w",
                        AWS_WEB_IDENTITY_TOKEN_FILE=os.fsdecode(self.write("token", b"a.b.c")))
        self.expect_object("ASIAWEB1")
        self.assertEqual(self.routes(sts), ["AssumeRoleWithWebIdentity"])

    def test_sts_that_throttles_or_cuts_is_asked_again(self):
        for fault in ("throttled", "unavailable", {"cut": {"at": "body", "bytes": 100}}):
            sts = self.use_role()
            sts.set_faults({"on": "AssumeRole", "fault": fault})
            self.expect_object("ASIAROLE2")
            self.assertEqual(len(sts.log()), 2)

    def test_sts_that_denies(self):
        sts = self.use_role()
        sts.set_faults({"on": "AssumeRole", "times": 0, "fault": "denied"})
        self.expect_error(4, "role arn:aws:iam::123456789012:role/r by profile 'base': STS answered "
                             "403 AccessDenied: User: nobody is not authorized")
        self.assertEqual(len(sts.log()), 1)

    # Nobody is asked in vain.

    def test_given_keys_ask_nobody(self):
        services = [self.use_imds(), self.use_container(), self.use_role()]
        self.env.update(AWS_ACCESS_KEY_ID="AKIAGIVEN", AWS_SECRET_ACCESS_KEY="given",
                        AWS_PROFILE="nobody")
        self.expect_object("AKIAGIVEN")
        self.assertEqual([server.log() for server in services], [[], [], []])

    def test_a_closed_port_is_said_at_once(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://127.0.0.1:{port}/task"
        self.expect_error(5, "container credentials: ")


if __name__ == "__main__":
    cli_support.main()
