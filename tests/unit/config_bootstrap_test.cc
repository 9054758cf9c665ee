// The engine's own configuration file (control/config/README.md).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "control/config/bootstrap_codec.h"
#include "tests/unit/config_fixture.h"

namespace limpet::config {
namespace {

using Paths = std::vector<std::string>;
using std::filesystem::path;

net::Address address(const char* text) {
  return *net::Address::parse(text);
}

JsonValue minimal_bootstrap() {
  return JsonValue::parse(R"({
    "name": "se1", "worker_cores": [1],
    "ports": [{"name": "front", "device": "net_tap0,iface=t0", "addresses": ["10.1.0.1/24"]},
              {"name": "back", "device": "0000:3b:00.1",
               "addresses": ["10.2.0.1/24", "fd00:2::1/64"]}],
    "api": {"listen": "127.0.0.1:9080"}
  })");
}

ParsedBootstrap right(const JsonValue& json) {
  auto result = parse_bootstrap(json.dump(), "/etc/limpet");
  if (result.ok()) return std::move(result.value());
  std::string all;
  for (const base::Error& e : result.errors()) all += e.path + ": " + e.message + "\n";
  throw std::runtime_error(all);
}

Paths wrong(const JsonValue& json) {
  return error_paths(parse_bootstrap(json.dump(), "/etc/limpet"));
}

void expect_each_bootstrap_is_refused(const std::vector<Wrong>& table) {
  for (const Wrong& row : table) {
    SCOPED_TRACE(std::string(row.field) + " = " + row.value);
    EXPECT_EQ(wrong(with(minimal_bootstrap(), row.field, row.value)),
              Paths{row.error == nullptr ? row.field : row.error});
  }
}

TEST(Bootstrap, TheSpecificationsExampleIsRead) {
  const auto result = parse_bootstrap(read_document_file("bootstrap.json"), "/etc/limpet");
  ASSERT_TRUE(result.ok());
  const Bootstrap& b = result.value().bootstrap;
  EXPECT_EQ(b.name, "se1");
  EXPECT_EQ(b.worker_cores, std::vector<uint32_t>{1});
  EXPECT_FALSE(b.memory.hugepages);
  EXPECT_EQ(b.memory.size_mb, 512u);
  ASSERT_EQ(b.ports.size(), 2u);
  EXPECT_EQ(b.ports[0].device, "net_af_packet0,iface=veth0");
  EXPECT_EQ(b.ports[0].addresses[1], *net::Prefix::parse("fd00:1::1/64"));
  EXPECT_EQ(b.ports[0].mac, net::Mac::parse("02:00:00:00:00:01"));
  EXPECT_EQ(b.ports[0].vlan, 100);
  EXPECT_EQ(b.routes[0].port, 0u);
  EXPECT_EQ(b.neighbors[0].port, 1u);
  EXPECT_EQ(b.snat.size(), 4u);
  EXPECT_EQ(b.limits.persistence_entries, 1048576u);
  EXPECT_EQ(b.limits.packet_buffers, 65536u);
  EXPECT_EQ(std::get<net::Endpoint>(b.api.listen), *net::Endpoint::parse("127.0.0.1:9080"));
  ASSERT_TRUE(b.mirroring);
  EXPECT_EQ(b.mirroring->secret_file, path("/etc/limpet/cluster.key"));
  EXPECT_EQ(b.mirroring->peers[0].name, "se2");
  EXPECT_EQ(b.state_directory, path("/var/lib/limpet/se1"));
  EXPECT_EQ(b.document, path("/etc/limpet/first-config.json"));
  EXPECT_EQ(b.eal, std::vector<std::string>{"--iova-mode=va"});
  EXPECT_TRUE(result.value().warnings.empty());
}

TEST(Bootstrap, DefaultsAreThoseOfTheSpecification) {
  const Bootstrap b = right(minimal_bootstrap()).bootstrap;
  EXPECT_EQ(b.control_core, 0u);
  EXPECT_EQ(b.idle_sleep.count(), 0);
  EXPECT_TRUE(b.memory.hugepages);
  EXPECT_EQ(b.memory.size_mb, 1024u);
  EXPECT_EQ(b.ports[0].mtu, 1500);
  EXPECT_FALSE(b.ports[0].mac);
  EXPECT_FALSE(b.ports[0].vlan);
  EXPECT_FALSE(b.limits.persistence_entries);
  EXPECT_FALSE(b.limits.flows_per_worker);
  EXPECT_FALSE(b.limits.packet_buffers);
  EXPECT_FALSE(b.mirroring);
  EXPECT_FALSE(b.state_directory);
  EXPECT_FALSE(b.document);
  EXPECT_FALSE(b.api.tls);
  EXPECT_TRUE(b.eal.empty());
}

TEST(Bootstrap, WhatIsRequiredIsMissedByName) {
  EXPECT_EQ(wrong(JsonValue::object()), (Paths{"/name", "/worker_cores", "/ports", "/api"}));
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/ports", "[{}]")),
            (Paths{"/ports/0/name", "/ports/0/device"}));
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/api", "{}")), Paths{"/api/listen"});
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/mirroring", "{}")), Paths{"/mirroring/listen"});
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/routes", "[{}]")),
            (Paths{"/routes/0/prefix", "/routes/0/next_hop"}));
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/neighbors", "[{}]")),
            (Paths{"/neighbors/0/address", "/neighbors/0/mac"}));
}

TEST(Bootstrap, AnUnknownFieldIsAnErrorWhereverItIs) {
  for (const char* place : {"", "/memory", "/ports/0", "/limits", "/api"}) {
    const std::string field = std::string(place) + "/typo";
    EXPECT_EQ(wrong(with(minimal_bootstrap(), field, "1")), Paths{field});
  }
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/routes",
                       R"([{"prefix": "0.0.0.0/0", "next_hop": "10.1.0.254", "metric": 1}])")),
            Paths{"/routes/0/metric"});
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/mirroring",
                       R"({"listen": "127.0.0.1:1", "peers": [
                           {"name": "b", "address": "127.0.0.1:2", "via": 1}]})")),
            Paths{"/mirroring/peers/0/via"});
}

TEST(Bootstrap, WrongFieldsOfTheEngine) {
  expect_each_bootstrap_is_refused({
      {"/name", R"("")", nullptr},
      {"/name", R"("a/b")", nullptr},
      {"/name", R"("-x")", nullptr},
      {"/name", R"("..")", nullptr},
      {"/name", "1", nullptr},
      {"/name", "null", nullptr},
      {"/control_core", "-1", nullptr},
      {"/control_core", R"("0")", nullptr},
      {"/control_core", "1024", nullptr},
      {"/worker_cores", "[]", nullptr},
      {"/worker_cores", "1", nullptr},
      {"/worker_cores", "[1, 1]", "/worker_cores/1"},
      {"/worker_cores", "[1, -2]", "/worker_cores/1"},
      {"/worker_cores", "[1.0]", "/worker_cores/0"},
      {"/idle_sleep_us", "-1", nullptr},
      {"/idle_sleep_us", "1000001", nullptr},
      {"/memory", "512", nullptr},
      {"/memory/hugepages", R"("false")", nullptr},
      {"/memory/size_mb", "63", nullptr},
      {"/memory/size_mb", "1048577", nullptr},
      {"/limits", "[]", nullptr},
      {"/limits/persistence_entries", "0", nullptr},
      {"/limits/flows_per_worker", "-1", nullptr},
      {"/limits/packet_buffers", "268435457", nullptr},
      {"/state_directory", R"("")", nullptr},
      {"/document", "{}", nullptr},
      {"/eal", R"("--iova-mode=va")", nullptr},
      {"/eal", "[1]", "/eal/0"},
  });
}

TEST(Bootstrap, WrongFieldsOfPorts) {
  expect_each_bootstrap_is_refused({
      {"/ports", "[]", nullptr},
      {"/ports", "{}", nullptr},
      {"/ports/1", "1", nullptr},
      {"/ports/1/name", R"("front")", nullptr},
      {"/ports/1/name", R"("a b")", nullptr},
      {"/ports/1/device", R"("")", nullptr},
      {"/ports/1/device", R"(",iface=x")", nullptr},
      {"/ports/1/device", R"("net_tap0,iface=t0")", nullptr},
      {"/ports/1/device", R"("net_pcap0,rx_pcap=")", nullptr},
      {"/ports/1/device", R"("net_pcap0,rx_pcap")", nullptr},
      {"/ports/1/addresses", R"("10.2.0.1/24")", nullptr},
      {"/ports/1/addresses/0", "1", nullptr},
      {"/ports/1/addresses/0", R"("10.2.0.1")", nullptr},
      {"/ports/1/addresses/0", R"("10.2.0.1/33")", nullptr},
      {"/ports/1/addresses/0", R"("10.2.0.0/24")", nullptr},
      {"/ports/1/addresses/0", R"("10.2.0.255/24")", nullptr},
      {"/ports/1/addresses/0", R"("10.2.0.1/0")", nullptr},
      {"/ports/1/addresses/0", R"("127.0.0.1/8")", nullptr},
      {"/ports/1/addresses/0", R"("224.0.0.1/24")", nullptr},
      {"/ports/1/addresses/0", R"("10.1.0.2/24")", nullptr},
      {"/ports/1/addresses/0", R"("10.0.0.9/8")", nullptr},
      {"/ports/1/addresses/2", R"("10.2.0.1/16")", nullptr},
      {"/ports/1/addresses/2", R"("fd00:3::/64")", nullptr},
      {"/ports/1/mtu", "575", nullptr},
      {"/ports/1/mtu", "9601", nullptr},
      {"/ports/1/mtu", "1279", "/ports/1/addresses/1"},
      {"/ports/1/mac", R"("02:00:00:00:00")", nullptr},
      {"/ports/1/mac", R"("01:00:5e:00:00:01")", nullptr},
      {"/ports/1/mac", R"("00:00:00:00:00:00")", nullptr},
      {"/ports/1/vlan", "0", nullptr},
      {"/ports/1/vlan", "4095", nullptr},
  });
}

TEST(Bootstrap, WrongRoutesAndNeighbours) {
  const auto route = [](const char* text) {
    return wrong(with(minimal_bootstrap(), "/routes/0", text));
  };
  EXPECT_EQ(route(R"({"prefix": "0.0.0.0/33", "next_hop": "10.1.0.254"})"),
            Paths{"/routes/0/prefix"});
  EXPECT_EQ(route(R"({"prefix": "10.9.0.1/16", "next_hop": "10.1.0.254"})"),
            Paths{"/routes/0/prefix"});
  EXPECT_EQ(route(R"({"prefix": "0.0.0.0/0", "next_hop": "10.3.0.1"})"),
            Paths{"/routes/0/next_hop"});
  EXPECT_EQ(route(R"({"prefix": "0.0.0.0/0", "next_hop": "10.1.0.1"})"),
            Paths{"/routes/0/next_hop"});
  EXPECT_EQ(route(R"({"prefix": "0.0.0.0/0", "next_hop": "fd00:2::9"})"),
            Paths{"/routes/0/next_hop"});
  EXPECT_EQ(route(R"({"prefix": "::/0", "next_hop": "fe80::1"})"), Paths{"/routes/0/port"});
  EXPECT_EQ(route(R"({"prefix": "::/0", "next_hop": "fe80::1", "port": "side"})"),
            Paths{"/routes/0/port"});
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/routes",
                       R"([{"prefix": "0.0.0.0/0", "next_hop": "10.1.0.254"},
                           {"prefix": "0.0.0.0/0", "next_hop": "10.1.0.253"}])")),
            Paths{"/routes/1/prefix"});

  const auto neighbor = [](const char* text) {
    return wrong(with(minimal_bootstrap(), "/neighbors/0", text));
  };
  EXPECT_EQ(neighbor(R"({"address": "10.1.0.9", "mac": "ff:ff:ff:ff:ff:ff"})"),
            Paths{"/neighbors/0/mac"});
  EXPECT_EQ(neighbor(R"({"address": "10.9.0.9", "mac": "02:00:00:00:00:09"})"),
            Paths{"/neighbors/0/address"});
  EXPECT_EQ(neighbor(R"({"address": "x", "mac": "02:00:00:00:00:09"})"),
            Paths{"/neighbors/0/address"});
  EXPECT_EQ(wrong(with(minimal_bootstrap(), "/neighbors",
                       R"([{"address": "10.1.0.9", "mac": "02:00:00:00:00:09"},
                           {"address": "10.1.0.9", "mac": "02:00:00:00:00:0a"}])")),
            Paths{"/neighbors/1/address"});
}

TEST(Bootstrap, ALinkLocalNextHopLiesBehindTheNamedPort) {
  const auto b = right(with(minimal_bootstrap(), "/routes/0",
                            R"({"prefix": "::/0", "next_hop": "fe80::1", "port": "back"})"));
  EXPECT_EQ(b.bootstrap.routes[0].port, 1u);
}

TEST(Bootstrap, ARouteLiesBehindThePortWhoseSubnetHasTheNextHop) {
  const auto b = right(
      with(minimal_bootstrap(), "/routes/0", R"({"prefix": "::/0", "next_hop": "fd00:2::9"})"));
  EXPECT_EQ(b.bootstrap.routes[0].port, 1u);
}

TEST(Bootstrap, SnatAddressesAreExpandedAndSorted) {
  const auto b = right(with(minimal_bootstrap(), "/snat",
                            R"(["fd00:2::20-fd00:2::21", "10.2.0.40", "10.2.0.32/30",
                                "10.2.0.10-10.2.0.11"])"))
                     .bootstrap;
  const std::vector<net::Address> v4 = {
      address("10.2.0.10"), address("10.2.0.11"), address("10.2.0.32"), address("10.2.0.33"),
      address("10.2.0.34"), address("10.2.0.35"), address("10.2.0.40")};
  std::vector<net::Address> all = v4;
  all.push_back(address("fd00:2::20"));
  all.push_back(address("fd00:2::21"));
  EXPECT_EQ(b.snat, all);
}

TEST(Bootstrap, ASnatPrefixLeavesOutTheAddressesThatNameTheSubnet) {
  auto json = minimal_bootstrap();
  at(json, "/ports/1/addresses") = {"10.2.0.9/29"};
  at(json, "/snat") = {"10.2.0.12/30"};
  EXPECT_EQ(right(json).bootstrap.snat,
            (std::vector{address("10.2.0.12"), address("10.2.0.13"), address("10.2.0.14")}));
}

TEST(Bootstrap, WrongSnatAddresses) {
  expect_each_bootstrap_is_refused({
      {"/snat", R"("10.2.0.9")", nullptr},
      {"/snat/0", "1", nullptr},
      {"/snat/0", R"("10.2.0")", nullptr},
      {"/snat/0", R"("10.2.0.9-10.2.0.8")", nullptr},
      {"/snat/0", R"("10.2.0.9-fd00::1")", nullptr},
      {"/snat/0", R"("10.2.0.9-")", nullptr},
      {"/snat/0", R"("10.2.0.9/24")", nullptr},
      {"/snat/0", R"("10.2.0.1")", nullptr},
      {"/snat/0", R"("10.2.0.255")", nullptr},
      {"/snat/0", R"("0.0.0.0")", nullptr},
      {"/snat/0", R"("127.0.0.1")", nullptr},
      {"/snat/0", R"("10.9.0.0/16")", nullptr},
      {"/snat/0", R"("::/0")", nullptr},
      {"/snat/0", R"("fd00:9::-fd00:9::ffff")", nullptr},
      {"/snat", R"(["10.2.0.9", "10.2.0.8-10.2.0.10"])", "/snat/1"},
  });
}

TEST(Bootstrap, PathsAreRelativeToTheFilesFolder) {
  auto json = minimal_bootstrap();
  at(json, "/ports/0/device") = "net_pcap0,rx_pcap=in.pcap,tx_pcap=../out/o.pcap,rx_pcap=/abs.pcap";
  at(json, "/ports/1/device") =
      "net_memif0,role=client,socket=run/memif.sock,mac=02:00:00:00:00:01";
  at(json, "/api") = {{"listen", "unix:run/api.sock"}};
  at(json, "/state_directory") = "state";
  at(json, "/document") = "./doc.json";
  const Bootstrap b = right(json).bootstrap;
  EXPECT_EQ(b.ports[0].device,
            "net_pcap0,rx_pcap=/etc/limpet/in.pcap,tx_pcap=/etc/out/o.pcap,rx_pcap=/abs.pcap");
  EXPECT_EQ(b.ports[1].device,
            "net_memif0,role=client,socket=/etc/limpet/run/memif.sock,mac=02:00:00:00:00:01");
  EXPECT_EQ(std::get<UnixSocketPath>(b.api.listen).path, path("/etc/limpet/run/api.sock"));
  EXPECT_EQ(b.state_directory, path("/etc/limpet/state"));
  EXPECT_EQ(b.document, path("/etc/limpet/doc.json"));
}

TEST(Bootstrap, PortsMayShareADeviceWithDifferentVlans) {
  auto json = minimal_bootstrap();
  at(json, "/ports/1/device") = "net_tap0,iface=t0";
  at(json, "/ports/1/vlan") = 7;
  EXPECT_EQ(right(json).bootstrap.ports[1].vlan, 7);
  at(json, "/ports/1/device") = "net_tap0,iface=other";
  EXPECT_EQ(wrong(json), Paths{"/ports/1/device"});
}

TEST(Bootstrap, APciAddressIsTheSameDeviceHoweverItIsWritten) {
  auto json = minimal_bootstrap();
  at(json, "/ports/0/device") = "0000:3B:00.1";
  at(json, "/ports/1/device") = "3b:00.1";
  const Paths paths = wrong(json);
  ASSERT_FALSE(paths.empty());
  EXPECT_EQ(paths.back(), "/ports/1/device");
}

TEST(Bootstrap, SharingTheControlCoreIsAWarning) {
  const auto b = right(with(minimal_bootstrap(), "/worker_cores", "[1, 0]"));
  EXPECT_EQ(paths_of(b.warnings), Paths{"/worker_cores/1"});
}

TEST(Bootstrap, TheApiNeedsTlsOffLoopback) {
  expect_each_bootstrap_is_refused({
      {"/api/listen", R"("0.0.0.0:9080")", "/api/tls"},
      {"/api/listen", R"("192.0.2.1:9080")", "/api/tls"},
      {"/api/listen", R"("[::]:9080")", "/api/tls"},
      {"/api/listen", R"("127.0.0.1")", nullptr},
      {"/api/listen", R"("127.0.0.1:0")", nullptr},
      {"/api/listen", R"("127.0.0.1:65536")", nullptr},
      {"/api/listen", R"("localhost:9080")", nullptr},
      {"/api/listen", R"("unix:")", nullptr},
      {"/api/listen", "9080", nullptr},
      {"/api/tls", "true", nullptr},
      {"/api/tls", R"({"certificate": "a", "key": "b"})", "/api/tls/client_ca"},
      {"/api/tls", R"({"certificate": 1, "key": "b", "client_ca": "c"})", "/api/tls/certificate"},
      {"/api", R"({"listen": "unix:a", "tls": {"certificate": "a", "key": "b",
                   "client_ca": "c"}})",
       "/api/tls"},
  });
  const auto b = right(with(minimal_bootstrap(), "/api",
                            R"({"listen": "0.0.0.0:9080", "tls": {"certificate": "a.pem",
                                "key": "/k.pem", "client_ca": "ca.pem"}})"))
                     .bootstrap;
  EXPECT_EQ(b.api.tls->certificate, path("/etc/limpet/a.pem"));
  EXPECT_EQ(b.api.tls->key, path("/k.pem"));
  EXPECT_EQ(right(with(minimal_bootstrap(), "/api/listen", R"("[::1]:80")")).warnings.size(), 0u);
}

TEST(Bootstrap, ASocketPathThatDoesNotFitIsRefused) {
  EXPECT_EQ(
      wrong(with(minimal_bootstrap(), "/api/listen", "\"unix:" + std::string(100, 'x') + "\"")),
      Paths{"/api/listen"});
}

TEST(Bootstrap, MirroringNeedsASecretOffLoopback) {
  const auto mirroring = [](const char* text) {
    return wrong(with(minimal_bootstrap(), "/mirroring", text));
  };
  EXPECT_EQ(mirroring(R"({"listen": "192.0.2.1:9090"})"), Paths{"/mirroring/secret_file"});
  EXPECT_EQ(mirroring(R"({"listen": "127.0.0.1:9090"})"), Paths{});
  EXPECT_EQ(mirroring(R"({"listen": "127.0.0.1:9090", "secret_file": ""})"),
            Paths{"/mirroring/secret_file"});
  EXPECT_EQ(mirroring(R"({"listen": "127.0.0.1:9090", "heartbeat_ms": 9})"),
            Paths{"/mirroring/heartbeat_ms"});
  EXPECT_EQ(mirroring(R"({"listen": "127.0.0.1:9090", "heartbeat_misses": 0})"),
            Paths{"/mirroring/heartbeat_misses"});
  EXPECT_EQ(
      mirroring(R"({"listen": "127.0.0.1:9090", "peers": [
                          {"name": "se1", "address": "127.0.0.1:1"},
                          {"name": "b", "address": "127.0.0.1:2"},
                          {"name": "b", "address": "127.0.0.1:2"}, {}]})"),
      (Paths{"/mirroring/peers/0/name", "/mirroring/peers/2/name", "/mirroring/peers/2/address",
             "/mirroring/peers/3/name", "/mirroring/peers/3/address"}));
}

TEST(Bootstrap, PeersHaveNamesThatFilesCanHaveAndLoopbackAddressesWithoutASecret) {
  const auto mirroring = [](const std::string& peers) {
    const auto text = R"({"listen": "127.0.0.1:9090", "peers": [)" + peers + "]}";
    return wrong(with(minimal_bootstrap(), "/mirroring", text));
  };
  EXPECT_EQ(
      mirroring(R"({"name": "a b", "address": "127.0.0.1:1"},
                         {"name": ")" +
                std::string(64, 'x') + R"(", "address": "127.0.0.1:2"},
                         {"name": "far", "address": "192.0.2.2:9090"})"),
      (Paths{"/mirroring/peers/0/name", "/mirroring/peers/1/name", "/mirroring/peers/2/address"}));
}

TEST(Bootstrap, AtMostSixteenPeersArePossible) {
  const auto peers = [](int count) {
    std::string text;
    for (int i = 1; i <= count; ++i)
      text +=
          fmt::format(R"({}{{"name": "p{}", "address": "127.0.0.1:{}"}})", i > 1 ? "," : "", i, i);
    return wrong(with(minimal_bootstrap(), "/mirroring",
                      R"({"listen": "127.0.0.1:9090", "peers": [)" + text + "]}"));
  };
  EXPECT_EQ(peers(16), Paths{});
  EXPECT_EQ(peers(17), Paths{"/mirroring/peers"});
}

TEST(Bootstrap, AllErrorsComeAtOnce) {
  auto json = minimal_bootstrap();
  json["name"] = "";
  json["ports"][0]["mtu"] = 1;
  json["api"]["listen"] = "x";
  json["typo"] = 1;
  EXPECT_EQ(wrong(json), (Paths{"/name", "/ports/0/mtu", "/api/listen", "/typo"}));
}

class BootstrapFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "limpet-config-XXXXXX").native();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
  }

  path folder_;
};

TEST_F(BootstrapFiles, AFileIsReadAgainstItsOwnFolder) {
  auto json = minimal_bootstrap();
  json["document"] = "doc.json";
  write("se.json", json.dump());
  const auto result = read_bootstrap(folder_ / "se.json");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().bootstrap.document, folder_ / "doc.json");
}

TEST_F(BootstrapFiles, AnAbsentFileIsAnErrorWithoutAPath) {
  EXPECT_EQ(error_paths(read_bootstrap(folder_ / "none.json")), Paths{""});
  EXPECT_EQ(error_paths(read_bootstrap(folder_)), Paths{""});
}

TEST_F(BootstrapFiles, FilesThatMustExistAreLookedAt) {
  auto json = minimal_bootstrap();
  json["document"] = "doc.json";
  json["mirroring"] = {{"listen", "127.0.0.1:9090"}, {"secret_file", "key"}};
  json["api"] = {{"listen", "192.0.2.1:1"},
                 {"tls", {{"certificate", "c"}, {"key", "."}, {"client_ca", "ca"}}}};
  write("key", std::string(31, 'k'));
  write("ca", "x");
  const auto parsed = parse_bootstrap(json.dump(), folder_);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(error_paths(check_files(parsed.value().bootstrap)),
            (Paths{"/api/tls/certificate", "/api/tls/key", "/mirroring/secret_file", "/document"}));
  write("key", std::string(32, 'k'));
  write("c", "x");
  write("doc.json", "{}");
  json["api"]["tls"]["key"] = "c";
  EXPECT_TRUE(check_files(parse_bootstrap(json.dump(), folder_).value().bootstrap).ok());
}

}  // namespace
}  // namespace limpet::config
