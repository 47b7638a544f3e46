"""HTTPS by a wheel that brings its own TLS: certificates.py DIRECTORY

What is trusted is found where each way says, and where there is nothing the error names all places.
"""
import http.server
import os
import ssl
import subprocess
import sys
import threading

import penstock

directory = sys.argv[1]
cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
                "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
               check=True, capture_output=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("Content-Length", "4")
        self.send_header("Content-Range", "bytes 0-3/4")
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(b"data")

    def log_message(self, *unused):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()

code = f"""
import penstock, sys
options = {{"endpoint": "https://localhost:{server.server_address[1]}", "region": "us-east-1",
           "access_key_id": "id", "secret_access_key": "secret"}}
if len(sys.argv) > 1:
    options["ca_file"] = sys.argv[1]
try:
    print(bytes(penstock.Store("s3://bucket/", options).get("key", timeout=20)).decode())
except penstock.Error as error:
    print(error)
"""


def ask(*arguments, before=(), **environment):
    base = {name: value for name, value in os.environ.items()
            if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE")}
    done = subprocess.run([*before, sys.executable, "-I", "-c", code, *arguments], capture_output=True,
                          text=True, timeout=60, env={**base, **environment}, check=True)
    return done.stdout.strip()


assert ask(cert) == "data"
assert ask(AWS_CA_BUNDLE=cert) == "data"
assert ask(SSL_CERT_FILE=cert) == "data"
refusal = ask()
assert "TLS failed" in refusal, refusal
# A system without any: /etc/ssl is hidden from the process.
hidden = ask(before=("unshare", "--map-root-user", "--mount", "sh", "-c",
                     'mount -t tmpfs none /etc/ssl && exec "$@"', "sh"))
for place in ("ca_file", "SSL_CERT_FILE", "SSL_CERT_DIR", "/etc/ssl/certs/ca-certificates.crt",
              "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"):
    assert place in hidden, hidden
print("certificates: by option and by environment; without them:", refusal)
