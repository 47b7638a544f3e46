"""A small S3 in memory, for tests without a server: objects, listings, buckets, multipart uploads.

    with FakeS3() as s3:
        s3.objects["bucket/key"] = b"data"
        store = penstock.Store("s3://bucket/", s3.options())

It checks no signature. `s3.requests` has a line of method and path for each request, `s3.keys` the access
key of each; `s3.hang` makes the server accept requests and never answer, `s3.is_cutting` makes it cut the
connection of each instead of answering, as one that is closed does.
"""
import hashlib
import http.server
import threading
import urllib.parse
from xml.sax.saxutils import escape


class FakeS3:
    def __init__(self):
        self.objects = {}
        self.types = {}
        self.buckets = {"bucket"}
        self.uploads = {}
        self.requests = []
        self.keys = []
        self.hang = threading.Event()
        self.is_hanging = False
        self.is_cutting = False
        self.waiting = threading.Semaphore(0)  # released once by each request that hangs
        fake = self

        class Handler(_Handler):
            s3 = fake

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def options(self, **more):
        return {"endpoint": self.endpoint, "region": "us-east-1", "access_key_id": "id",
                "secret_access_key": "secret", **more}

    def environment(self):
        return {"AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}

    def close(self):
        self.is_cutting = True
        self.hang.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *unused):
        pass  # a client that went away


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3 = None

    def log_message(self, *unused):
        pass

    def answer(self, status, body=b"", headers=(), length=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, status, code):
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def start(self):
        """Bucket, key and query; None where the request is not to be answered."""
        parts = urllib.parse.urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(parts.path[1:]).partition("/")
        credential = (self.headers.get("Authorization") or "").partition("Credential=")[2]
        self.s3.requests.append(f"{self.command} {self.path}")
        self.s3.keys.append(credential.partition("/")[0])
        is_cut = self.s3.is_cutting
        if self.s3.is_hanging:
            self.s3.waiting.release()
            self.s3.hang.wait()
            is_cut = True
        if is_cut:
            self.close_connection = True
            return None
        return bucket, key

    def do_GET(self):
        where = self.start()
        if where is None:
            return
        bucket, key = where
        if not bucket:
            self.list_buckets()
        elif bucket not in self.s3.buckets:
            self.fail(404, "NoSuchBucket")
        elif not key:
            self.list_uploads(bucket) if "uploads" in self.query else self.list_objects(bucket)
        else:
            self.send_object(f"{bucket}/{key}")

    do_HEAD = do_GET

    def send_object(self, name):
        data = self.s3.objects.get(name)
        if data is None:
            self.fail(404, "NoSuchKey")
            return
        headers = [("ETag", _etag(data)), ("Last-Modified", "Sat, 21 Nov 2026 20:00:00 GMT"),
                   ("Content-Type", self.s3.types.get(name, "binary/octet-stream"))]
        wanted = self.headers.get("Range")
        match = self.headers.get("If-Match")
        if match and match != _etag(data):
            self.fail(412, "PreconditionFailed")
        elif not wanted or self.command == "HEAD":
            self.answer(200, data, headers)
        else:
            first, _, last = wanted.partition("=")[2].partition("-")
            start = int(first) if first else max(0, len(data) - int(last))
            end = min(int(last), len(data) - 1) if first and last else len(data) - 1
            if start >= len(data):
                self.fail(416, "InvalidRange")
                return
            headers.append(("Content-Range", f"bytes {start}-{end}/{len(data)}"))
            self.answer(206, data[start:end + 1], headers)

    def list_buckets(self):
        rows = "".join(f"<Bucket><Name>{escape(name)}</Name>"
                       "<CreationDate>2026-11-21T20:00:00.000Z</CreationDate></Bucket>"
                       for name in sorted(self.s3.buckets))
        self.answer(200, f"<ListAllMyBucketsResult><Buckets>{rows}</Buckets>"
                         "</ListAllMyBucketsResult>".encode())

    def list_uploads(self, bucket):
        rows = "".join(f"<Upload><Key>{escape(name.partition('/')[2])}</Key>"
                       f"<UploadId>{number}</UploadId>"
                       "<Initiated>2026-11-21T20:00:00.000Z</Initiated></Upload>"
                       for number, (name, _) in self.s3.uploads.items()
                       if name.startswith(bucket + "/"))
        self.answer(200, f"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{rows}"
                         "</ListMultipartUploadsResult>".encode())

    def list_objects(self, bucket):
        prefix = self.query.get("prefix", "")
        delimiter = self.query.get("delimiter", "")
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        most = min(int(self.query.get("max-keys", 1000)), 1000)
        rows, n_rows, last, seen, is_cut = "", 0, "", set(), False
        encode = (lambda text: urllib.parse.quote(text, safe="/")) \
            if self.query.get("encoding-type") == "url" else escape
        for name in sorted(self.s3.objects, key=lambda text: text.encode()):
            owner, _, key = name.partition("/")
            if owner != bucket or not key.startswith(prefix):
                continue
            rest = key[len(prefix):]
            common = prefix + rest[:rest.index("/") + 1] if delimiter and "/" in rest else None
            if (common or key) <= after or common in seen:
                continue
            if n_rows == most:
                is_cut = True
                break
            n_rows, last = n_rows + 1, common or key
            if common:
                seen.add(common)
                rows += f"<CommonPrefixes><Prefix>{encode(common)}</Prefix></CommonPrefixes>"
            else:
                data = self.s3.objects[name]
                rows += (f"<Contents><Key>{encode(key)}</Key><Size>{len(data)}</Size>"
                         f"<ETag>{escape(_etag(data))}</ETag>"
                         "<LastModified>2026-11-21T20:00:00.000Z</LastModified>"
                         "<StorageClass>STANDARD</StorageClass></Contents>")
        form = "<EncodingType>url</EncodingType>" if "encoding-type" in self.query else ""
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if is_cut else ""
        self.answer(200, f"<ListBucketResult>{form}<IsTruncated>{'true' if is_cut else 'false'}"
                         f"</IsTruncated>{rows}{token}</ListBucketResult>".encode())

    def do_PUT(self):
        where = self.start()
        if where is None:
            return
        bucket, key = where
        name = f"{bucket}/{key}"
        if not key:
            is_new = bucket not in self.s3.buckets
            self.s3.buckets.add(bucket)
            self.answer(200) if is_new else self.fail(409, "BucketAlreadyOwnedByYou")
        elif bucket not in self.s3.buckets:
            self.fail(404, "NoSuchBucket")
        elif "partNumber" in self.query:
            self.s3.uploads[self.query["uploadId"]][1][int(self.query["partNumber"])] = self.body
            self.answer(200, headers=[("ETag", _etag(self.body))])
        elif self.headers.get("If-None-Match") == "*" and name in self.s3.objects:
            self.fail(412, "PreconditionFailed")
        elif self.headers.get("x-amz-copy-source"):
            source = urllib.parse.unquote(self.headers["x-amz-copy-source"]).lstrip("/")
            if source not in self.s3.objects:
                self.fail(404, "NoSuchKey")
                return
            self.s3.objects[name] = self.s3.objects[source]
            self.answer(200, f"<CopyObjectResult><ETag>{escape(_etag(self.s3.objects[name]))}</ETag>"
                             "<LastModified>2026-11-21T20:00:00.000Z</LastModified>"
                             "</CopyObjectResult>".encode())
        else:
            self.s3.objects[name] = self.body
            self.s3.types[name] = self.headers.get("Content-Type", "binary/octet-stream")
            self.answer(200, headers=[("ETag", _etag(self.body))])

    def do_POST(self):
        where = self.start()
        if where is None:
            return
        name = "/".join(where)
        if "uploads" in self.query:
            number = str(len(self.s3.requests))
            self.s3.uploads[number] = (name, {})
            self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{number}</UploadId>"
                             "</InitiateMultipartUploadResult>".encode())
        elif "uploadId" in self.query:
            _, parts = self.s3.uploads.pop(self.query["uploadId"])
            data = b"".join(parts[number] for number in sorted(parts))
            self.s3.objects[name] = data
            self.answer(200, f"<CompleteMultipartUploadResult><ETag>{escape(_etag(data))}</ETag>"
                             "</CompleteMultipartUploadResult>".encode())
        elif "delete" in self.query:
            import xml.etree.ElementTree as ElementTree
            rows = ""
            for element in ElementTree.fromstring(self.body).iter():
                if element.tag.rpartition("}")[2] == "Key":
                    self.s3.objects.pop(f"{where[0]}/{element.text}", None)
                    rows += f"<Deleted><Key>{escape(element.text)}</Key></Deleted>"
            self.answer(200, f"<DeleteResult>{rows}</DeleteResult>".encode())
        else:
            self.fail(400, "InvalidRequest")

    def do_DELETE(self):
        where = self.start()
        if where is None:
            return
        bucket, key = where
        if "uploadId" in self.query:
            self.s3.uploads.pop(self.query["uploadId"], None)
            self.answer(204)
        elif key:
            self.s3.objects.pop(f"{bucket}/{key}", None)
            self.answer(204)
        elif bucket not in self.s3.buckets:
            self.fail(404, "NoSuchBucket")
        elif any(name.startswith(bucket + "/") for name in self.s3.objects):
            self.fail(409, "BucketNotEmpty")
        else:
            self.s3.buckets.discard(bucket)
            self.answer(204)


def _etag(data):
    return f'"{hashlib.md5(data).hexdigest()}"'
