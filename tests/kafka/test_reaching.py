"""Why a cluster cannot be reached is said within seconds, with the cure, however silent the client's library is."""

import datetime
import socket
import ssl
import threading

import pytest

from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.errors import SettingsError
from dvfb_stream.kafka.consumer import BrokerAwayError, BrokerError, check_reachable
from dvfb_stream.kafka.reaching import Obstacle, why_unreachable


def cluster(*servers, **settings):
    return KafkaSettings.model_validate({"bootstrap_servers": servers, "topics": ["t"], **settings})


@pytest.fixture
def answering():
    """Function that listens, and answers the first bytes of each connection with what it was given."""
    stopping = []

    def listen(answer):
        server = socket.create_server(("127.0.0.1", 0))

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(1000)
                        if answer:
                            connection.sendall(answer)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        stopping.append((server, thread))
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for server, thread in stopping:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


def test_a_broker_that_answers_is_no_obstacle(bootstrap_servers):
    assert why_unreachable(cluster("localhost:1", *bootstrap_servers)) == []


def test_tls_against_a_plain_port_is_said_so_at_once(bootstrap_servers):
    with pytest.raises(BrokerError, match=r'does not speak TLS .* use "PLAINTEXT"') as refused:
        check_reachable(cluster(*bootstrap_servers, security_protocol="SSL"))
    assert not isinstance(refused.value, BrokerAwayError)  # nobody waits for that


@pytest.mark.parametrize(
    ("server", "obstacle", "cure"),
    [
        ("127.0.0.1:1", Obstacle.NOBODY_LISTENS, "is the port right"),
        ("kafka.nowhere.invalid:9092", Obstacle.UNKNOWN_NAME, "no machine 'kafka.nowhere.invalid'"),
    ],
)
def test_a_slip_in_an_address_is_told_from_a_cluster_that_is_down(server, obstacle, cure):
    (found,) = why_unreachable(cluster(server))
    assert found.obstacle is obstacle
    assert cure in str(found)
    with pytest.raises(BrokerAwayError):
        check_reachable(cluster(server))


@pytest.mark.parametrize(
    ("answer", "obstacle"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46\x00", Obstacle.WANTS_TLS),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Obstacle.NOT_KAFKA),
        (b"", Obstacle.SILENT),
    ],
)
def test_what_answers_and_is_no_broker_for_us_is_told_apart(answering, answer, obstacle):
    (found,) = why_unreachable(cluster(answering(answer)))
    assert found.obstacle is obstacle


@pytest.mark.parametrize(
    "server", ["kafka", "kafka:", "kafka:99999", "kafka:0", "kafka:9092x", ":9092", "tcp://kafka:9092"]
)
def test_a_port_that_is_none_is_refused_in_the_configuration(tmp_path, server):
    from dvfb_stream.daemon.settings import read_settings

    path = tmp_path / "daemon.toml"
    path.write_text(f'[kafka]\nbootstrap_servers = ["{server}"]\ntopics = ["t"]\n[sinks]\njsonl = "a"\n')
    with pytest.raises(SettingsError, match=r"kafka.bootstrap_servers.0: .*must be host:port") as refused:
        read_settings(path)
    assert "\n" not in str(refused.value)


def test_a_certificate_of_an_unknown_authority_is_said_so(tmp_path):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = tmp_path / "own.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(2):
            connection, _ = server.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    address = f"localhost:{server.getsockname()[1]}"
    (found,) = why_unreachable(cluster(address, security_protocol="SSL"))
    assert found.obstacle is Obstacle.UNTRUSTED
    assert "kafka.ssl_cafile" in str(found)
    assert why_unreachable(cluster(address, security_protocol="SSL", ssl_cafile=str(pem))) == []
    thread.join(10)
    server.close()
