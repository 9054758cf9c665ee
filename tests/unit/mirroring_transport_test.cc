#include "control/mirroring/transport.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <fstream>
#include <functional>

#include "common/timing/manual_clock.h"
#include "control/mirroring/tls.h"
#include "tests/unit/mirroring_lab.h"

namespace limpet::mirroring {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using binding::ScopeId;
using timing::milliseconds;
using timing::seconds;

constexpr ScopeId kScope{7};

net::Endpoint loopback(uint16_t port, const char* address = "127.0.0.1") {
  return {*net::Address::parse(address), port};
}

constexpr const char* kStranger = "127.0.0.9";
constexpr const char* kPeerAddress = "127.0.0.2";

// An engine with sockets.
struct Node {
  Node(const std::string& name, const std::vector<std::string>& peers, uint64_t seed)
      : lab(with(name, peers), 0, seed) {
    options.name = name;
    options.boot = lab.engine.boot;
    options.listen = loopback(0);
    for (const std::string& peer : peers)
      options.peers.push_back({peer, loopback(1)});  // nobody listens there
  }
  static std::vector<std::string> with(const std::string& name, std::vector<std::string> peers) {
    peers.insert(peers.begin(), name);
    return peers;
  }

  const Peer& peer() const { return transport->engine().peers[0]; }
  const ReasonCounts& refused() const { return transport->engine().ended; }

  LabEngine lab;
  TransportOptions options;
  std::unique_ptr<Transport> transport;
};

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

// "a" connects to "b". "aa", which "b" knows as well, is never there.
class MirroringTransportTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/mirroring_transport_" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path secret(const std::string& name, char fill, std::size_t bytes = 32) {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << std::string(bytes, fill);
    return path;
  }
  void use_secret(Node& node, char fill = 's') {
    node.options.secret_file = secret(node.options.name + ".key", fill);
  }
  void open(Node& node) {
    auto opened = Transport::open(io_, node.options, node.lab.list, node.lab.home, clock_);
    ASSERT_TRUE(opened.ok()) << opened.errors()[0].message;
    node.transport = std::move(opened.value());
    node.transport->start();
  }
  // "b" first, for "a" has to know its port.
  void open_both() {
    open(b_);
    a_.options.peers[0].address = loopback(b_.transport->port());
    open(a_);
  }

  // The clock goes as the machine's does, about.
  bool run_until(const std::function<bool()>& done, int steps = 1500) {
    for (int i = 0; i < steps && !done(); ++i) {
      io_.run_for(milliseconds(2));
      io_.restart();
      clock_.advance(milliseconds(2));
    }
    return done();
  }
  void run(int steps = 50) {
    run_until([] { return false; }, steps);
  }
  bool both_synced() {
    return a_.transport->status()[0].synced && b_.transport->status()[0].synced;
  }
  bool same() const { return a_.lab.home.records == b_.lab.home.records; }

  tcp::socket raw_client(const char* from = "127.0.0.1") {
    tcp::socket socket(io_, {asio::ip::make_address(from), 0});
    socket.connect({asio::ip::make_address("127.0.0.1"), b_.transport->port()});
    return socket;
  }
  // Clients that connect and say nothing; "b" has accepted them.
  void crowd(const char* from, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      crowd_.push_back(raw_client(from));
      run(1);
    }
    run(5);
  }
  // "a", and with it "b"'s idea of it, is at an address where nobody else is.
  void move_a() {
    a_.options.listen = loopback(0, kPeerAddress);
    b_.options.peers[0].address = loopback(1, kPeerAddress);
  }
  bool is_open(tcp::socket& socket) {
    boost::system::error_code error;
    socket.non_blocking(true);
    char byte;
    socket.read_some(asio::buffer(&byte, 1), error);
    return error == asio::error::would_block;
  }
  static std::vector<uint8_t> hello(const std::string& name) {
    std::vector<uint8_t> bytes;
    encode(Hello{.boot = {{1}}, .name = name}, &bytes);
    return bytes;
  }
  void expect_no_effect() {
    EXPECT_TRUE(b_.lab.home.arrivals.empty());
    EXPECT_EQ(b_.transport->status()[0].state, "connecting");
    EXPECT_EQ(b_.peer().session, SessionNumber{});
  }

  std::filesystem::path folder_;
  asio::io_context io_;
  std::vector<tcp::socket> crowd_;
  timing::ManualClock clock_{timing::Instant{1'000'000'000}};
  Node a_{"a", {"b"}, 1};
  Node b_{"b", {"a", "aa"}, 2};
};

TEST_F(MirroringTransportTest, AfterAResyncThePeerTellsEverythingAgain) {
  open_both();
  b_.lab.home.create(kScope, 1, 7);
  b_.transport->changed();
  ASSERT_TRUE(run_until([&] { return a_.lab.home.arrivals.size() == 1 && a_.peer().live; }));
  a_.transport->resync();
  ASSERT_TRUE(run_until([&] { return a_.lab.home.arrivals.size() == 2; }));
  EXPECT_EQ(a_.peer().counters.ended[Reason::kResync], 1u);
  EXPECT_EQ(b_.peer().counters.snapshots_full, 2u);
}

TEST_F(MirroringTransportTest, EnginesWithTheSameSecretSync) {
  a_.lab.home.create(kScope, 1, 11);
  b_.lab.home.create(kScope, 2, 12);
  use_secret(a_);
  use_secret(b_);
  open_both();
  EXPECT_TRUE(run_until([&] { return both_synced() && same(); }));
  EXPECT_EQ(a_.lab.home.records.size(), 2u);
}

// Not with the next tick, which comes every 50 ms here: 20 times within 20 is not by chance.
TEST_F(MirroringTransportTest, ChangesGoOutAtOnce) {
  use_secret(a_);
  use_secret(b_);
  a_.options.heartbeat = b_.options.heartbeat = seconds(1);
  open_both();
  ASSERT_TRUE(run_until([&] { return both_synced(); }));
  for (uint32_t n = 0; n < 20; ++n) {
    b_.lab.home.create(kScope, n, 11);
    b_.transport->changed();
    ASSERT_TRUE(run_until([&] { return same(); }, 10)) << n;
  }
}

TEST_F(MirroringTransportTest, PlaintextSyncsOnLoopback) {
  a_.lab.home.create(kScope, 1, 11);
  open_both();
  EXPECT_TRUE(run_until([&] { return both_synced() && same(); }));
}

TEST_F(MirroringTransportTest, ManyBindingsGoThroughTls) {
  for (uint32_t n = 0; n < 4000; ++n) a_.lab.home.create(kScope, n, 11);
  use_secret(a_);
  use_secret(b_);
  open_both();
  EXPECT_TRUE(run_until([&] { return both_synced() && same(); }));
}

TEST_F(MirroringTransportTest, AnotherSecretIsRefused) {
  a_.lab.home.create(kScope, 1, 11);
  use_secret(a_, 'x');
  use_secret(b_);
  open_both();
  EXPECT_TRUE(run_until([&] {
    return b_.refused()[Reason::kTls] > 0 && a_.peer().counters.ended[Reason::kTls] > 0;
  }));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, PlaintextToAListenerWithASecretIsRefused) {
  a_.lab.home.create(kScope, 1, 11);
  use_secret(b_);
  open_both();
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kTls] > 0; }));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, TlsToAListenerWithoutASecretIsRefused) {
  a_.lab.home.create(kScope, 1, 11);
  use_secret(a_);
  open_both();
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kBadLength] > 0; }));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, Tls12IsRefused) {
  use_secret(b_);
  open(b_);
  asio::ssl::context context(asio::ssl::context::tls_client);
  SSL_CTX_set_max_proto_version(context.native_handle(), TLS1_2_VERSION);
  asio::ssl::stream<tcp::socket> client(raw_client(), context);
  bool failed = false;
  client.async_handshake(asio::ssl::stream_base::client,
                         [&](boost::system::error_code error) { failed = bool(error); });
  EXPECT_TRUE(run_until([&] { return failed && b_.refused()[Reason::kTls] == 1; }));
}

TEST_F(MirroringTransportTest, Tls13WithoutTheKeyIsRefused) {
  use_secret(b_);
  open(b_);
  asio::ssl::context context(asio::ssl::context::tls_client);
  asio::ssl::stream<tcp::socket> client(raw_client(), context);
  bool failed = false;
  client.async_handshake(asio::ssl::stream_base::client,
                         [&](boost::system::error_code error) { failed = bool(error); });
  EXPECT_TRUE(run_until([&] { return failed && b_.refused()[Reason::kTls] == 1; }));
}

TEST_F(MirroringTransportTest, AnUnknownNameIsRefused) {
  open(b_);
  tcp::socket client = raw_client();
  asio::write(client, asio::buffer(hello("x")));
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kUnknownPeer] == 1; }));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, AnUnknownNameWithTheSecretIsRefused) {
  Node x{"0", {"b"}, 3};
  use_secret(x);
  use_secret(b_);
  open(b_);
  x.options.peers[0].address = loopback(b_.transport->port());
  open(x);
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kUnknownPeer] > 0; }));
  EXPECT_TRUE(run_until([&] { return x.peer().counters.ended[Reason::kPeerSaidBye] > 0; }));
  EXPECT_EQ(x.peer().last_bye, static_cast<uint32_t>(Reason::kUnknownPeer));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, GarbageIsRefused) {
  open(b_);
  tcp::socket client = raw_client();
  asio::write(client, asio::buffer(std::string(5000, 'G')));
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kBadLength] == 1; }));
  expect_no_effect();
}

TEST_F(MirroringTransportTest, GarbageForTlsIsRefused) {
  use_secret(b_);
  open(b_);
  tcp::socket client = raw_client();
  asio::write(client, asio::buffer(std::string(5000, 'G')));
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kTls] == 1; }));
  expect_no_effect();
}

// A TLS server with a certificate of its own, and without the key.
class Impostor {
 public:
  explicit Impostor(asio::io_context& io)
      : context_(asio::ssl::context::tls_server),
        acceptor_(io, {asio::ip::make_address("127.0.0.1"), 0}),
        stream_(io, make_certificate(context_)) {
    acceptor_.async_accept(stream_.next_layer(), [this](boost::system::error_code error) {
      if (error) return;
      stream_.async_handshake(asio::ssl::stream_base::server, [this](auto failed) {
        done = true;
        if (!failed) stream_.read_some(asio::buffer(heard), failed);
      });
    });
  }
  uint16_t port() const { return acceptor_.local_endpoint().port(); }

  bool done = false;
  std::array<char, 64> heard{};

 private:
  static asio::ssl::context& make_certificate(asio::ssl::context& context) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    SSL_CTX_use_certificate(context.native_handle(), certificate);
    SSL_CTX_use_PrivateKey(context.native_handle(), key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
  }

  asio::ssl::context context_;
  tcp::acceptor acceptor_;
  asio::ssl::stream<tcp::socket> stream_;
};

TEST_F(MirroringTransportTest, AServerWithACertificateInsteadOfTheKeyIsRefused) {
  Impostor impostor(io_);
  use_secret(a_);
  a_.options.peers[0].address = loopback(impostor.port());
  open(a_);
  EXPECT_TRUE(
      run_until([&] { return impostor.done && a_.peer().counters.ended[Reason::kTls] > 0; }));
  EXPECT_EQ(a_.peer().session, SessionNumber{});
  EXPECT_EQ(impostor.heard[0], 0);
}

// What "a" sends to "b" goes through here and is kept.
class Recorder {
 public:
  Recorder(asio::io_context& io, uint16_t to)
      : acceptor_(io, {asio::ip::make_address("127.0.0.1"), 0}), near_(io), far_(io) {
    far_.connect({asio::ip::make_address("127.0.0.1"), to});
    acceptor_.async_accept(near_, [this](boost::system::error_code error) {
      if (error) return;
      copy(near_, far_, near_in_, &recorded);
      copy(far_, near_, far_in_, nullptr);
    });
  }
  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  void close() {
    acceptor_.close();
    near_.close();
    far_.close();
  }

  std::vector<uint8_t> recorded;

 private:
  using Buffer = std::array<uint8_t, 4096>;

  void copy(tcp::socket& from, tcp::socket& to, Buffer& buffer, std::vector<uint8_t>* keep) {
    from.async_read_some(asio::buffer(buffer),
                         [&, this, keep](boost::system::error_code error, std::size_t bytes) {
                           if (error) return;
                           if (keep != nullptr)
                             keep->insert(keep->end(), buffer.begin(),
                                          buffer.begin() + static_cast<std::ptrdiff_t>(bytes));
                           asio::write(to, asio::buffer(buffer, bytes), error);
                           if (!error) copy(from, to, buffer, keep);
                         });
  }

  tcp::acceptor acceptor_;
  tcp::socket near_;
  tcp::socket far_;
  Buffer near_in_;
  Buffer far_in_;
};

TEST_F(MirroringTransportTest, BytesOfAnEarlierSessionAreRefused) {
  a_.lab.home.create(kScope, 1, 11);
  use_secret(a_);
  use_secret(b_);
  open(b_);
  Recorder recorder(io_, b_.transport->port());
  a_.options.peers[0].address = loopback(recorder.port());
  open(a_);
  ASSERT_TRUE(run_until([&] { return both_synced() && same(); }));
  a_.transport->close();
  recorder.close();
  ASSERT_TRUE(run_until([&] { return b_.transport->status()[0].state == "connecting"; }));
  const std::size_t arrivals = b_.lab.home.arrivals.size();
  const uint64_t refused = b_.refused()[Reason::kTls];

  tcp::socket client = raw_client();
  boost::system::error_code ignored;
  asio::write(client, asio::buffer(recorder.recorded), ignored);
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kTls] > refused; }));
  EXPECT_EQ(b_.lab.home.arrivals.size(), arrivals);
  EXPECT_EQ(b_.transport->status()[0].state, "connecting");
  EXPECT_EQ(b_.peer().session, SessionNumber{1});
}

TEST_F(MirroringTransportTest, NothingOfABindingIsReadableOnTheWire) {
  use_secret(a_);
  use_secret(b_);
  open(b_);
  Recorder recorder(io_, b_.transport->port());
  a_.options.peers[0].address = loopback(recorder.port());
  open(a_);
  a_.lab.home.create(kScope, 1, 0x4141414141414141);
  ASSERT_TRUE(run_until([&] { return both_synced() && same(); }));
  const std::string seen(recorder.recorded.begin(), recorder.recorded.end());
  EXPECT_EQ(seen.find("LIMPETM"), std::string::npos);
  EXPECT_EQ(seen.find("AAAAAAAA"), std::string::npos);
  a_.transport->close();
  recorder.close();
}

TEST_F(MirroringTransportTest, StrangersCostTheOldestOfThemItsPlace) {
  move_a();
  open(b_);
  crowd(kStranger, kStrangersMax);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 0u);
  crowd("127.0.0.8", 3);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 3u);
  const auto open = [&](tcp::socket& s) { return is_open(s); };
  EXPECT_EQ(std::ranges::count_if(crowd_, open), std::ptrdiff_t{kStrangersMax});
  EXPECT_EQ(std::ranges::find_if(crowd_, open) - crowd_.begin(), 3);
}

TEST_F(MirroringTransportTest, StrangersDoNotCostAPeerItsPlace) {
  move_a();
  open(b_);
  tcp::socket peer = raw_client(kPeerAddress);
  run(5);
  crowd(kStranger, 3 * kStrangersMax);
  EXPECT_TRUE(is_open(peer));
  asio::write(peer, asio::buffer(hello("a")));
  EXPECT_TRUE(run_until([&] { return b_.peer().session == SessionNumber{1}; }));
}

TEST_F(MirroringTransportTest, StrangersAtAPeersAddressDoNotKeepItOut) {
  move_a();
  use_secret(a_);
  use_secret(b_);
  open(b_);
  crowd(kPeerAddress, kPendingOfAPeerMax + 2);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 2u);
  a_.options.peers[0].address = loopback(b_.transport->port());
  open(a_);
  EXPECT_TRUE(run_until([&] { return both_synced(); }));
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 3u);
  EXPECT_EQ(a_.peer().last_end, Reason::kNone) << "not at the first try";
}

TEST_F(MirroringTransportTest, StrangersAtOnePeersAddressDoNotCostAnotherPeerItsPlace) {
  move_a();
  b_.options.peers[1].address = loopback(1, "127.0.0.3");
  open(b_);
  tcp::socket other = raw_client("127.0.0.3");
  tcp::socket stranger = raw_client(kStranger);
  run(5);
  crowd(kPeerAddress, 3 * kPendingOfAPeerMax);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 2 * kPendingOfAPeerMax);
  EXPECT_TRUE(is_open(other));
  EXPECT_TRUE(is_open(stranger));
}

TEST_F(MirroringTransportTest, PeersOfOneAddressHaveRoomForAll) {
  open(b_);
  crowd("127.0.0.1", 2 * kPendingOfAPeerMax);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 0u);
  crowd("127.0.0.1", 1);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 1u);
}

TEST_F(MirroringTransportTest, APeerWithAnIpv4AddressIsKnownAtASocketForBothFamilies) {
  move_a();
  use_secret(b_);
  b_.options.listen = loopback(0, "::");
  open(b_);
  tcp::socket peer = raw_client(kPeerAddress);
  run(5);
  crowd(kStranger, kStrangersMax + 1);
  EXPECT_EQ(b_.refused()[Reason::kCrowded], 1u);
  EXPECT_TRUE(is_open(peer));
}

// Else the peer would take it for a stranger where a machine has several addresses.
TEST_F(MirroringTransportTest, AnEngineConnectsFromTheAddressThatItListensOn) {
  tcp::acceptor acceptor(io_, {asio::ip::make_address("127.0.0.1"), 0});
  a_.options.listen = loopback(0, kPeerAddress);
  a_.options.peers[0].address = loopback(acceptor.local_endpoint().port());
  open(a_);
  tcp::endpoint from;
  tcp::socket accepted(io_);
  acceptor.async_accept(accepted, from, [](boost::system::error_code) {});
  ASSERT_TRUE(run_until([&] { return from.port() != 0; }));
  EXPECT_EQ(from.address().to_string(), kPeerAddress);
}

TEST_F(MirroringTransportTest, AnEngineThatListensOnAllAddressesConnectsFromAnyOfThem) {
  use_secret(a_);
  use_secret(b_);
  a_.options.listen = loopback(0, "0.0.0.0");
  open_both();
  EXPECT_TRUE(run_until([&] { return both_synced(); }));
}

TEST_F(MirroringTransportTest, AClientThatSaysNothingIsGivenUp) {
  use_secret(b_);
  open(b_);
  tcp::socket client = raw_client();
  run();
  EXPECT_EQ(b_.refused()[Reason::kHandshakeTimeout], 0u);
  clock_.advance(seconds(5));
  EXPECT_TRUE(run_until([&] { return b_.refused()[Reason::kHandshakeTimeout] == 1; }));
}

TEST_F(MirroringTransportTest, APeerThatIsNotThereIsTriedAgain) {
  open(a_);
  EXPECT_TRUE(run_until([&] { return a_.peer().counters.ended[Reason::kUnreachable] >= 2; }));
  EXPECT_EQ(a_.transport->status()[0].state, "connecting");
}

TEST_F(MirroringTransportTest, ARestartedEngineGetsEverythingAgain) {
  a_.lab.home.create(kScope, 1, 11);
  use_secret(a_);
  use_secret(b_);
  open_both();
  ASSERT_TRUE(run_until([&] { return both_synced() && same(); }));
  Node again{"b", {"a"}, 9};
  again.options.listen = loopback(b_.transport->port());
  again.options.secret_file = b_.options.secret_file;
  b_.transport.reset();
  open(again);
  EXPECT_TRUE(run_until([&] { return again.lab.home.records == a_.lab.home.records; }));
  EXPECT_EQ(a_.peer().counters.snapshots_full, 2u);
}

TEST_F(MirroringTransportTest, AnEngineThatStopsSaysSo) {
  use_secret(a_);
  use_secret(b_);
  open_both();
  ASSERT_TRUE(run_until([&] { return both_synced(); }));
  a_.transport->close();
  EXPECT_TRUE(run_until([&] { return b_.peer().last_end == Reason::kPeerSaidBye; }));
  EXPECT_EQ(b_.peer().last_bye, static_cast<uint32_t>(Reason::kShutdown));
}

TEST_F(MirroringTransportTest, AHomeWithoutRoomLosesNothing) {
  use_secret(a_);
  use_secret(b_);
  open_both();
  ASSERT_TRUE(run_until([&] { return both_synced(); }));
  b_.lab.home.full = true;
  for (uint32_t n = 0; n < 4000; ++n) a_.lab.home.create(kScope, n, 11);
  run(400);
  EXPECT_TRUE(b_.lab.home.records.empty());
  EXPECT_EQ(b_.peer().counters.ended[Reason::kSilent], 0u);
  b_.lab.home.full = false;
  b_.transport->retry();
  EXPECT_TRUE(run_until([&] { return same(); }));
  EXPECT_EQ(b_.peer().session, SessionNumber{1});
}

// What is closed leaves handlers: of accepting, connecting, a handshake, the timer. They hold what
// they need, do nothing, and then there is nothing left of either engine.
TEST_F(MirroringTransportTest, AnEndIsNotLeftToHandlersThatCameTooLate) {
  use_secret(a_);
  use_secret(b_);
  a_.lab.home.create(kScope, 1, 11);
  // The context's own are open from here on.
  tcp::acceptor(io_, {asio::ip::make_address("127.0.0.1"), 0}).close();
  const std::ptrdiff_t descriptors = open_descriptors();
  open_both();
  for (int i = 0; i < 1000 && open_descriptors() < descriptors + 4; ++i)
    io_.run_one_for(seconds(1));
  ASSERT_EQ(open_descriptors(), descriptors + 4) << "two that listen, both ends of a connection";
  ASSERT_EQ(a_.peer().session, SessionNumber{}) << "not in the middle of a handshake";
  a_.transport.reset();
  b_.transport.reset();
  EXPECT_GT(io_.poll(), 0u) << "no handler came too late";
  io_.run_for(seconds(1));
  EXPECT_TRUE(io_.stopped()) << "somebody still waits for something";
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_TRUE(b_.lab.home.arrivals.empty());
}

using MirroringOptionsTest = MirroringTransportTest;

TEST_F(MirroringOptionsTest, ASecretIsRequiredOffLoopback) {
  a_.options.listen = {*net::Address::parse("0.0.0.0"), 0};
  const auto opened = Transport::open(io_, a_.options, a_.lab.list, a_.lab.home, clock_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.errors()[0].path, "/mirroring/secret_file");
}

TEST_F(MirroringOptionsTest, PlaintextConnectsToLoopbackOnly) {
  a_.options.peers[0].address = {*net::Address::parse("192.0.2.2"), 9090};
  const auto opened = Transport::open(io_, a_.options, a_.lab.list, a_.lab.home, clock_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.errors()[0].path, "/mirroring/peers/0/address");
}

TEST_F(MirroringOptionsTest, ASecretThatIsTooShortIsAnError) {
  a_.options.secret_file = secret("short.key", 's', 31);
  const auto opened = Transport::open(io_, a_.options, a_.lab.list, a_.lab.home, clock_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.errors()[0].path, "/mirroring/secret_file");
}

TEST_F(MirroringOptionsTest, MorePeersThanPossibleAreAnError) {
  a_.options.peers.assign(kPeersMax + 1, {"b", loopback(1)});
  const auto opened = Transport::open(io_, a_.options, a_.lab.list, a_.lab.home, clock_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.errors()[0].path, "/mirroring/peers");
}

TEST_F(MirroringOptionsTest, AnAddressInUseIsAnError) {
  open(b_);
  a_.options.listen = loopback(b_.transport->port());
  const auto opened = Transport::open(io_, a_.options, a_.lab.list, a_.lab.home, clock_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.errors()[0].path, "/mirroring/listen");
}

// RFC 5869 A.3: no salt, no info; the first 32 bytes.
TEST(MirroringKey, IsHkdfSha256) {
  const std::vector<uint8_t> secret(22, 0x0b);
  const DerivedKey key = derive_key(secret, "");
  const std::array<uint8_t, 32> expected = {0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f,
                                            0x71, 0x5f, 0x80, 0x2a, 0x06, 0x3c, 0x5a, 0x31,
                                            0xb8, 0xa1, 0x1f, 0x5c, 0x5e, 0xe1, 0x87, 0x9e,
                                            0xc3, 0x45, 0x4e, 0x5f, 0x3c, 0x73, 0x8d, 0x2d};
  EXPECT_TRUE(std::ranges::equal(key.bytes(), expected));
}

TEST(MirroringKey, DiffersByLabel) {
  const std::vector<uint8_t> secret(32, 1);
  EXPECT_FALSE(
      std::ranges::equal(derive_key(secret, "a").bytes(), derive_key(secret, "b").bytes()));
}

}  // namespace
}  // namespace limpet::mirroring
