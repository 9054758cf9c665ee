"""Somebody who speaks to an engine's mirroring port: frames by control/mirroring/README.md, TLS by
OpenSSL's s_client, plain TCP, and a recorder of what goes over the wire."""
import hashlib
import hmac
import socket
import struct
import subprocess
import threading
import time

from lab import http_get  # noqa: F401 (part of what tests of mirroring say)

IDENTITY = "limpet-mirroring-1"
ORIGIN_MS = 1_577_836_800_000  # of stamps: 2020-01-01


def channel_key(secret):
    """HKDF-SHA256 without salt (RFC 5869), 32 bytes."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, b"limpet mirroring 1 psk\x01", hashlib.sha256).digest()


def stamp_now():
    return (int(time.time() * 1000) - ORIGIN_MS) << 23 | 8191


def frame(kind, body):
    return struct.pack("<IBBH", 8 + len(body), kind, 1, 0) + body


def hello(name, *, magic=b"LIMPETM\0", versions=(1, 1), boot=b"b" * 16):
    body = struct.pack("<8sHHIQ16sq16sQ64sII", magic, *versions, 1000, 0, boot, 1, bytes(16), 0,
                       name.encode(), 0, 0)
    return frame(1, body + bytes(64 * 16 + 32))


def binding(sequence, *, stamp, deleted=0, scope=77, act_at=1, server=7):
    return frame(2, struct.pack("<QQ16sQQQQQqIIB7s", sequence, scope, bytes(10) + b"\xff\xff\x0a\x01\0\x63", stamp,
                                server, server, deleted, stamp, act_at, 0, 0, 0, bytes(7)))


def scope_tombstone(sequence, *, deleted, scope=77):
    return frame(3, struct.pack("<QQQ", sequence, scope, deleted))


def ack(sequence):
    return frame(4, struct.pack("<Q", sequence))


def heartbeat():
    return frame(5, struct.pack("<qqqII", 1, 0, 0, 0, 0))


def snapshot_begin(up_to, kind=1):
    return frame(6, struct.pack("<QII", up_to, kind, 0))


def snapshot_end(sequence):
    return frame(7, struct.pack("<Q", sequence))


def plain(namespace, port, source="127.0.0.1"):
    connection = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    return connection


def send_plain(namespace, port, data):
    """Sends it, and waits until the engine has closed the connection."""
    with plain(namespace, port) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass


class TlsClient:
    """A TLS connection with a pre-shared key (None: without any), by s_client."""

    def __init__(self, namespace, port, *, key, identity=IDENTITY, version="-tls1_3"):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", version,
                   "-ciphersuites", "TLS_AES_128_GCM_SHA256"]
        if key is not None:
            command += ["-psk", key.hex(), "-psk_identity", identity]
        self.process = namespace.start(*command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.process.stdin.close()

    def send(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def is_closed_by_engine(self, timeout_s):
        try:
            self.process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            return False


class Recorder:
    """Passes one connection on to the engine, and keeps what the client sent."""

    def __init__(self, namespace, port):
        self.data, self.namespace, self.target = b"", namespace, port
        self.listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1)
        self.listener.settimeout(10)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._pass_on)
        self.thread.start()

    def _pass_on(self):
        try:
            inside, _ = self.listener.accept()
        except OSError:
            return
        with inside, plain(self.namespace, self.target) as outside:
            back = threading.Thread(target=self._pump, args=(outside, inside))
            back.start()
            self._pump(inside, outside, True)
            back.join()

    def _pump(self, source, sink, record=False):
        try:
            while data := source.recv(65536):
                if record:
                    self.data += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def recorded(self):
        self.thread.join(10)
        return self.data

    def close(self):
        self.listener.close()
        self.thread.join(10)
