"""Real storage servers on loopback, each with a folder, ports and keys of its own.

A Server is made with the folder that it may use, start() returns when it answers, stop() ends the very
processes that start() began. They die with this process however it ends (PR_SET_PDEATHSIG), so start
them from the thread that lives longest. Ports are chosen by the kernel; between asking for one and the
server's use of it another process can be quicker, so a server that ends while it starts is given other
ports and another try, unless its port was asked for.

What each server really enforces is in README.md beside this file. Standard library only.
"""
import ctypes
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid

HOME = os.environ.get("PENSTOCK_SERVERS") or os.path.expanduser("~/.cache/penstock/servers")
HOST = "127.0.0.1"
REGION = "us-east-1"
# Below localhost, so that libcurl and most resolvers know every bucket's name without asking anybody.
VIRTUAL_DOMAIN = "s3.localhost"

START_S = 60   # a server that does not answer by then has failed; a busy machine needs most of it
STOP_S = 10    # from SIGTERM to SIGKILL
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A server is not installed, or does not start."""


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


def tail(path, n=15):
    with open(path, encoding="utf-8", errors="replace") as f:
        return "".join(f.readlines()[-n:])


def die_with(parent):
    """For a child, before exec: SIGKILL when the parent ends, which it may have done already."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)


def spawn(argv, **more):
    parent = os.getpid()
    return subprocess.Popen(argv, preexec_fn=lambda: die_with(parent), **more)


class Certificates:
    """A certificate authority that nobody knows, and one server certificate by it."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.ca, self.cert, self.key = (os.path.join(folder, name) for name in
                                        ("ca.crt", "public.crt", "private.key"))

    def make(self):
        def openssl(*args):
            subprocess.run(["openssl", *args], cwd=self.folder, check=True, capture_output=True)

        curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", "-newkey", *curve, "-keyout", "ca.key", "-out", "ca.crt",
                "-days", "2", "-subj", "/CN=penstock test authority",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-newkey", *curve, "-keyout", "private.key", "-out", "server.csr",
                "-subj", "/CN=penstock test server")
        with open(os.path.join(self.folder, "server.ext"), "w", encoding="ascii") as f:
            f.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                    "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,DNS:localhost,"
                    f"DNS:{VIRTUAL_DOMAIN},DNS:*.{VIRTUAL_DOMAIN}\n")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "server.ext", "-out", "public.crt")
        return self


class Server:
    name = ""
    needs = ()           # files below HOME
    scheme = "http"
    is_s3 = False
    ready_path = "/"     # any answer to GET below 500 will do

    def __init__(self, folder, port=0, access_key="penstock", secret_key=None):
        self.folder = os.path.abspath(folder)
        self.wanted_port = port
        self.port = 0
        self.access_key = access_key
        self.secret_key = secret_key or secrets.token_hex(20)
        self.processes = []  # in the order in which they were started
        self.certificates = None

    # What the kinds of server say about themselves.

    def launch(self):
        raise NotImplementedError

    def facts(self):
        """What a test may know of it, by the end of the variable's name."""
        facts = {"ENDPOINT": self.endpoint}
        if self.certificates:
            facts["CA_FILE"] = self.certificates.ca
        return facts

    # What they have in common.

    @property
    def endpoint(self):
        return f"{self.scheme}://{HOST}:{self.port}"

    @property
    def pid(self):
        return self.processes[-1].pid

    def path(self, *names):
        path = os.path.join(self.folder, *names)
        os.makedirs(path, exist_ok=True)
        return path

    def installed(self, path):
        return os.path.join(HOME, path)

    def run(self, argv, log=None, **more):
        """Start one process of the server. It has a session of its own: Ctrl-C is not for it."""
        log = os.path.join(self.path("log"), f"{log or self.name}.log")
        with open(log, "ab") as out:
            process = spawn(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                            start_new_session=True, **more)
        process.log = log
        self.processes.append(process)
        return process

    def check_installed(self):
        for path in self.needs:
            if not os.path.exists(self.installed(path)):
                raise Failed(f"{self.name} is not installed (tests/servers/install)")

    def start(self):
        """Start it, or start it again, on the port and with the data that it had."""
        self.check_installed()
        for is_last in (False, False, True):
            try:
                self.port = self.port or self.wanted_port or free_port()
                self.launch()
                self.wait_for(self.answers)
                return self
            except Failed:
                self.stop()
                if is_last or self.wanted_port:
                    raise
                self.port = 0
        return self

    def wait_for(self, condition):
        deadline = time.monotonic() + START_S
        while not condition():
            for process in self.processes:
                if process.poll() is not None:
                    raise Failed(f"{self.name} ended while it started:\n{tail(process.log)}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} does not answer:\n{tail(self.processes[-1].log)}")
            time.sleep(0.05)

    def answers(self):
        return self.get(self.ready_path) < 500

    def get(self, path):
        """The status that it answers to an anonymous GET; 599: none."""
        context = None
        if self.scheme == "https":
            context = ssl.create_default_context(cafile=self.certificates.ca)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        try:
            with opener.open(self.endpoint + path, timeout=2) as reply:
                return reply.status
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return 599

    def dead(self):
        """The process that has ended although nobody stopped it, or None."""
        return next((p for p in self.processes if p.poll() is not None), None)

    def stop(self):
        """End what start() began: children of ours that nobody has waited for, so the process ids
        cannot be anybody else's."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def forget(self):
        """Stop it and remove all that it wrote."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Minio(Server):
    name = "minio"
    needs = ("bin/minio",)
    is_s3 = True
    ready_path = "/minio/health/ready"

    def launch(self):
        certs = self.certificates.folder if self.certificates else self.path("no-certs")
        # Only with MINIO_SITE_REGION is a wrong region refused, as AWS does.
        env = {**os.environ, "MINIO_ROOT_USER": self.access_key,
               "MINIO_ROOT_PASSWORD": self.secret_key, "MINIO_SITE_REGION": REGION,
               "MINIO_DOMAIN": VIRTUAL_DOMAIN, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off",
               "MINIO_CI_CD": "1", "HOME": self.path("home")}
        self.run([self.installed("bin/minio"), "server", "--quiet", "--address",
                  f"{HOST}:{self.port}", "--certs-dir", certs, self.path("data")], env=env)

    def facts(self):
        return {**super().facts(), "ROOT": self.path("data")}


class MinioTls(Minio):
    name = "minio-tls"
    scheme = "https"

    def launch(self):
        if not self.certificates:
            self.certificates = Certificates(self.path("certs")).make()
        super().launch()


class Versitygw(Server):
    """Over http only: over TLS, 1.8.0 mixes up connections after a PUT that it refuses."""
    name = "versitygw"
    needs = ("bin/versitygw",)
    is_s3 = True
    ready_path = "/healthz"

    def launch(self):
        # It changes its directory: all paths are absolute. --iam-dir: an unknown key is then refused as
        # AWS does, with 403 InvalidAccessKeyId.
        self.run([self.installed("bin/versitygw"), "--port", f"{HOST}:{self.port}", "--access",
                  self.access_key, "--secret", self.secret_key, "--region", REGION,
                  "--virtual-domain", VIRTUAL_DOMAIN, "--keep-alive", "--quiet",
                  "--health", "/healthz", "--iam-dir", self.path("iam"), "posix",
                  "--versioning-dir", self.path("versions"), self.path("data")])

    def facts(self):
        return {**super().facts(), "ROOT": self.path("data")}


class CephRgw(Server):
    """A monitor, one OSD in memory and the gateway, from Debian's packages unpacked in a folder."""
    name = "ceph-rgw"
    needs = ("ceph/usr/bin/radosgw", "ceph/usr/bin/ceph-mon", "ceph/usr/bin/ceph-osd")
    is_s3 = True

    def conf(self, fsid, mon):
        root, d = self.installed("ceph"), self.folder
        lib = f"{root}/usr/lib/x86_64-linux-gnu"
        return f"""[global]
fsid = {fsid}
mon initial members = a
mon host = {mon}
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {d}/mon
osd data = {d}/osd
run dir = {d}/run
admin socket = {d}/run/$name.asok
pid file = {d}/run/$name.pid
log file = {d}/log/$name.log
crash dir = {d}/run
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd class dir = {lib}/rados-classes
keyring = {d}/keyring
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
[client.admin]
rgw frontends = beast endpoint={HOST}:{self.port}
rgw dns name = {VIRTUAL_DOMAIN}
rgw data = {d}/run
"""

    def launch(self):
        root = self.installed("ceph")
        lib = f"{root}/usr/lib/x86_64-linux-gnu"
        conf, keyring = (os.path.join(self.folder, name) for name in ("ceph.conf", "keyring"))
        env = {**os.environ, "CEPH_CONF": conf, "PATH": f"{root}/usr/bin:{os.environ['PATH']}",
               "LD_LIBRARY_PATH": f"{lib}:{lib}/ceph:{root}/usr/lib:{root}/lib/x86_64-linux-gnu",
               "PYTHONPATH": f"{root}/usr/lib/python3/dist-packages"}

        def tool(name, *args):
            # Not as a child of whatever python runs this: Debian's binding is built for Debian's.
            program = ["/usr/bin/python3"] if name == "ceph" else []
            done = subprocess.run([*program, f"{root}/usr/bin/{name}", *args], env=env, check=False,
                                  capture_output=True, text=True, timeout=START_S)
            if done.returncode != 0:
                raise Failed(f"{name} {args[0]}: {done.stderr.strip()}")
            return done.stdout

        def daemon(name, *args):
            return self.run([f"{root}/usr/bin/{name}", "-f", *args, "-c", conf], log=name, env=env)

        def mon_is_there():
            with socket.socket() as s:
                return s.connect_ex((HOST, port)) == 0

        for name in ("mon", "osd", "run", "log"):
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
            self.path(name)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        port = free_port()
        mon = f"[v2:{HOST}:{port},v1:{HOST}:{free_port()}]"
        with open(conf, "w", encoding="ascii") as f:
            f.write(self.conf(fsid, mon))
        if os.path.exists(keyring):
            os.unlink(keyring)
        for entity, caps in (("mon.", ("mon",)), ("client.admin", ("mon", "osd", "mgr"))):
            tool("ceph-authtool", *(() if os.path.exists(keyring) else ("--create-keyring",)),
                 keyring, "--gen-key", "-n", entity,
                 *(word for cap in caps for word in ("--cap", cap, "allow *")))
        tool("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", "--cap", "mon",
             "allow profile osd", "--cap", "osd", "allow *")
        monmap = os.path.join(self.folder, "monmap")
        tool("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", mon, monmap)
        tool("ceph-mon", "--mkfs", "-i", "a", "-c", conf, "--monmap", monmap, "--keyring", keyring)
        daemon("ceph-mon", "-i", "a")
        self.wait_for(mon_is_there)
        tool("ceph", "osd", "new", osd)
        tool("ceph-osd", "--mkfs", "-i", "0", "-c", conf, "--osd-uuid", osd, "--no-mon-config")
        daemon("ceph-osd", "-i", "0")
        self.wait_for(lambda: '"num_up_osds":1' in tool("ceph", "osd", "stat", "-f", "json"))
        tool("radosgw-admin", "-c", conf, "user", "create", "--uid=penstock",
             "--display-name=penstock", f"--access-key={self.access_key}",
             f"--secret={self.secret_key}")
        daemon("radosgw", "-n", "client.admin")


class Moto(Server):
    """STS, IAM and EC2 metadata. Its S3 checks neither signatures nor checksums: not for S3."""
    name = "moto"
    needs = ("pyenv/bin/moto_server",)
    ready_path = "/moto-api/"

    def launch(self):
        self.run([self.installed("pyenv/bin/moto_server"), "-H", HOST, "-p", str(self.port)])


class Toxiproxy(Server):
    """Its proxies are made over its own HTTP interface, `listen` 127.0.0.1:0 for a free port."""
    name = "toxiproxy"
    needs = ("bin/toxiproxy-server",)
    ready_path = "/version"

    def launch(self):
        self.run([self.installed("bin/toxiproxy-server"), "-host", HOST, "-port", str(self.port)])


class S3proxy(Server):
    """Checks signatures, ignores checksums, and lets conditional writes race."""
    name = "s3proxy"
    needs = ("java",)
    is_s3 = True

    def launch(self):
        jars = sorted(n for n in os.listdir(self.installed("java")) if n.startswith("s3proxy-"))
        if not jars:
            raise Failed("s3proxy is not installed (tests/servers/install)")
        conf = os.path.join(self.path("conf"), "s3proxy.properties")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"s3proxy.endpoint={self.endpoint}\ns3proxy.authorization=aws-v2-or-v4\n"
                    f"s3proxy.identity={self.access_key}\ns3proxy.credential={self.secret_key}\n"
                    "s3proxy.ignore-unknown-headers=true\njclouds.provider=filesystem-nio2\n"
                    "jclouds.identity=x\njclouds.credential=x\n"
                    f"jclouds.filesystem.basedir={self.path('data')}\n")
        self.run(["java", "-Xmx512m", "-jar", self.installed(f"java/{jars[-1]}"),
                  "--properties", conf])


class Nginx(Server):
    """Files with ranges from ROOT, over http and https; PUT and DELETE over http."""
    name = "nginx"

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.tls_port = 0

    def launch(self):
        self.certificates = self.certificates or Certificates(self.path("certs")).make()
        self.tls_port = self.tls_port or free_port()
        program = "/usr/sbin/nginx"
        if not os.path.exists(program):
            program = self.installed("nginx/usr/sbin/nginx")
        for name in ("html", "log", "tmp"):
            self.path(name)
        conf = os.path.join(self.path("conf"), "nginx.conf")
        temps = "".join(f"{kind}_temp_path tmp/{kind}; " for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.getuid() == 0 else ""
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"""daemon off; master_process off; worker_processes 1; pid nginx.pid; {user}
error_log log/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 60s;
  client_max_body_size 0; types {{ }} default_type application/octet-stream; {temps}
  server {{ listen {HOST}:{self.port}; root html;
           location / {{ dav_methods PUT DELETE; create_full_put_path on; }} }}
  server {{ listen {HOST}:{self.tls_port} ssl; root html;
           ssl_certificate {self.certificates.cert};
           ssl_certificate_key {self.certificates.key}; }}
}}
""")
        if not os.path.exists(program):
            raise Failed("nginx is not installed (tests/servers/install)")
        self.run([program, "-p", self.folder, "-c", conf])

    def facts(self):
        return {**super().facts(), "TLS_ENDPOINT": f"https://{HOST}:{self.tls_port}",
                "ROOT": self.path("html")}


KINDS = {kind.name: kind for kind in (Minio, MinioTls, Versitygw, CephRgw, Moto, Toxiproxy, S3proxy,
                                      Nginx)}
