// What is said about a bootstrap and its document before anything starts.
#include "control/engine/check.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace limpet::engine {
namespace {

using Json = nlohmann::json;
using Paths = std::vector<std::string>;

Paths paths_of(const std::vector<base::Error>& errors) {
  Paths out;
  for (const base::Error& e : errors) out.push_back(e.path);
  return out;
}

Json good_bootstrap() {
  return Json::parse(R"({
    "name": "se1", "worker_cores": [0], "memory": {"hugepages": false, "size_mb": 64},
    "ports": [{"name": "front", "device": "net_null0", "addresses": ["10.1.0.1/24"]},
              {"name": "back", "device": "net_null1", "addresses": ["10.2.0.1/24"]}],
    "limits": {"persistence_entries": 1024, "flows_per_worker": 1024, "packet_buffers": 4096},
    "api": {"listen": "127.0.0.1:9080"}, "document": "first.json"})");
}

Json good_document() {
  return Json::parse(R"({
    "Pool": [{"name": "web", "default_server_port": 80, "lb_algorithm": "LB_ALGORITHM_ROUND_ROBIN",
              "servers": [{"ip": {"addr": "10.2.0.2", "type": "V4"}},
                          {"ip": {"addr": "10.2.0.3", "type": "V4"}}]}],
    "VsVip": [{"name": "vip", "vip": [{"vip_id": "0",
                                       "ip_address": {"addr": "10.1.0.100", "type": "V4"}}]}],
    "VirtualService": [
      {"name": "web", "vsvip_ref": "/api/vsvip/?name=vip", "services": [{"port": 80}],
       "pool_ref": "/api/pool/?name=web",
       "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
       "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"},
      {"name": "off", "enabled": false, "vsvip_ref": "/api/vsvip/?name=vip",
       "services": [{"port": 81}], "pool_ref": "/api/pool/?name=web",
       "application_profile_ref": "/api/applicationprofile/?name=System-L4-Application",
       "network_profile_ref": "/api/networkprofile/?name=System-TCP-Fast-Path"}]})");
}

class Check : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "limpet-check-XXXXXX").native();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  Findings examined(bool replay = false) const {
    write("first.json", document.dump());
    write("engine.json", bootstrap.dump());
    return examine(folder / "engine.json", replay);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name) << text;
  }

  std::filesystem::path folder;
  Json bootstrap = good_bootstrap();
  Json document = good_document();
};

TEST_F(Check, AGoodFileIsGoodAndItsServicesAreCounted) {
  const Findings found = examined();
  EXPECT_TRUE(found.is_good());
  EXPECT_EQ(paths_of(found.wrong), Paths{});
  EXPECT_EQ(paths_of(found.missing), Paths{});
  ASSERT_TRUE(found.services);
  EXPECT_EQ(found.services->served, 1u);
  EXPECT_EQ(found.services->all, 2u);
  EXPECT_EQ(found.document, document.dump());
}

TEST_F(Check, ErrorsOfTheFileDoNotHideThoseOfWhatItNames) {
  bootstrap["idle_sleep_us"] = "soon";
  bootstrap["eal"] = {"-v", "--no-such-option"};
  bootstrap["worker_cores"] = {0, 1'023};
  bootstrap["ports"][1]["device"] = "net_af_packet0,iface=absent0";
  bootstrap["api"]["listen"] = "unix:absent/api.sock";
  bootstrap["mirroring"] = {{"listen", "127.0.0.1:9090"}, {"secret_file", "absent.key"}};
  document["Pool"][0]["servers"][1]["ip"]["addr"] = "10.2.0.300";
  document["VirtualService"][0]["services"][0]["port"] = 65'536;
  const Findings found = examined();
  EXPECT_FALSE(found.is_right());
  EXPECT_EQ(paths_of(found.wrong), (Paths{"/idle_sleep_us", "/mirroring/secret_file", "/eal/1"}));
  EXPECT_EQ(paths_of(found.missing), (Paths{"/worker_cores/1", "/ports/1/device", "/api/listen"}));
  EXPECT_EQ(paths_of(found.document_wrong),
            (Paths{"/Pool/0/servers/1/ip/addr", "/VirtualService/0/services/0/port"}));
}

TEST_F(Check, ADocumentIsReadEvenWhenThePortsItIsForAreWrong) {
  bootstrap["ports"][0]["mtu"] = 1;
  bootstrap["worker_cores"] = Json::array();
  document["Pool"][0]["servers"][1]["ip"]["addr"] = "10.2.0.300";
  Findings found = examined();
  EXPECT_EQ(paths_of(found.wrong), (Paths{"/worker_cores", "/ports/0/mtu"}));
  EXPECT_EQ(paths_of(found.document_wrong), Paths{"/Pool/0/servers/1/ip/addr"});
  document = good_document();
  document["Pool"][0]["surprise"] = 1;
  found = examined();
  EXPECT_EQ(paths_of(found.document_wrong), Paths{});
  EXPECT_EQ(paths_of(found.document_warnings), Paths{"/Pool/0/surprise"});
  EXPECT_FALSE(found.services) << "not compiled, so not known";
}

TEST_F(Check, WhatIsWrongInTheTextIsSaidOnce) {
  bootstrap["mirroring"] = {{"listen", "127.0.0.1:9090"}, {"secret_file", ""}};
  bootstrap["eal"] = {1, "--no-such-option"};
  bootstrap["document"] = 7;
  EXPECT_EQ(paths_of(examined().wrong), (Paths{"/mirroring/secret_file", "/document", "/eal/0"}));
}

TEST_F(Check, OfTextThatIsNoJsonNothingElseIsSaid) {
  write("engine.json", "{");
  const Findings found = examine(folder / "engine.json", false);
  EXPECT_EQ(paths_of(found.wrong), Paths{""});
  EXPECT_EQ(paths_of(found.missing), Paths{});
}

TEST_F(Check, AGroupOfEnginesIsJudgedByWhoMirrors) {
  document["ServiceEngineGroup"] = Json::parse(R"([{"name": "g", "engines": ["se1", "se2"]}])");
  document["VirtualService"][0]["se_group_ref"] = "/api/serviceenginegroup/?name=g";
  const auto warned = [&] {
    Paths out;
    for (const std::string& path : paths_of(examined().document_warnings)) {
      if (path.starts_with("/ServiceEngineGroup")) out.push_back(path);
    }
    return out;
  };
  EXPECT_EQ(warned().size(), 1u) << "no mirroring: nobody takes part";
  bootstrap["mirroring"] = Json::parse(
      R"({"listen": "127.0.0.1:9090", "peers": [{"name": "se3", "address": "127.0.0.1:9091"}]})");
  EXPECT_EQ(warned().size(), 1u) << "se2 is no peer";
  bootstrap["mirroring"]["peers"][0]["name"] = "se2";
  EXPECT_EQ(warned().size(), 0u);
  EXPECT_EQ(examined().services->served, 1u) << "this engine or the other serves it";
}

// Self-signed, for a hundred years, its key, and another key; of tests only.
constexpr const char* kCertificate = R"(-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUbnZPLZxSaFMVXWZbzsDe9Jh/v/IwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMzAwMTUwMDJaGA8yMTI2MTEwNjAxNTAw
MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABObl
fbXtDXhoKCJKf2ym7FVrW1OdhRmmI2xREQAKzpqOMYHev1doxkuXQ2AYuZDne5Jk
NDzIptjFoVHDWBwA6uKjUzBRMB0GA1UdDgQWBBRn+hjri+TMmFfpuwdzOG0Whu6O
STAfBgNVHSMEGDAWgBRn+hjri+TMmFfpuwdzOG0Whu6OSTAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIFltUEQ0skD9UQsfJBHnQ3dPzH0qlChfPAZO
vL8DHq9GAiEA6wbxyHnSLSpVaXVZdZn2tyOLQnxT4krv0+j04ueVptM=
-----END CERTIFICATE-----
)";
constexpr const char* kCertificateKey = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQguiiqH8IXuz+QedKs
BqFReJ0U7C1UNQ6zYgwXalJ9lLehRANCAATm5X217Q14aCgiSn9spuxVa1tTnYUZ
piNsUREACs6ajjGB3r9XaMZLl0NgGLmQ53uSZDQ8yKbYxaFRw1gcAOri
-----END PRIVATE KEY-----
)";
constexpr const char* kAnotherKey = R"(-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIKngrcp//SMAIumMd/402FCaHN1nKTNdEHlrz+9/ALX8oAoGCCqGSM49
AwEHoUQDQgAENmI5qPN3fScJWV+aFvP/MSOAgufxqu/LmpOgk9LlQ1Oit38oz3gH
mPpr4boF//G0JVK8uoXanJsc83QnxdPWUQ==
-----END EC PRIVATE KEY-----
)";

TEST_F(Check, WhatTheTlsFilesContainIsLookedAt) {
  bootstrap["api"] = Json::parse(
      R"({"listen": "127.0.0.1:9080", "tls": {"certificate": "c", "key": "k", "client_ca": "c"}})");
  write("c", kCertificate);
  write("k", kCertificateKey);
  EXPECT_TRUE(examined().is_right());
  write("k", kAnotherKey);
  EXPECT_EQ(paths_of(examined().wrong), (Paths{"/api/tls/key"}));
  write("k", kCertificateKey);
  write("c", "no certificate");
  EXPECT_EQ(paths_of(examined().wrong), (Paths{"/api/tls/certificate", "/api/tls/client_ca"}));
}

TEST_F(Check, WhatThisHostDoesNotHaveIsMissing) {
  bootstrap["control_core"] = 1'023;
  bootstrap["memory"] = {{"hugepages", true}, {"size_mb", 1'048'576}};
  bootstrap["ports"][0]["device"] = "ffff:ff:1f.7";
  bootstrap["api"] = Json::parse(
      R"({"listen": "192.0.2.1:9080", "tls": {"certificate": "c", "key": "k", "client_ca": "c"}})");
  bootstrap["mirroring"] = Json::parse(R"({"listen": "[2001:db8::1]:9090", "secret_file": "s"})");
  bootstrap["state_directory"] = "engine.json/state";
  write("c", kCertificate);
  write("k", kCertificateKey);
  write("s", std::string(32, 's'));
  const Findings found = examined();
  EXPECT_TRUE(found.is_right());
  EXPECT_EQ(paths_of(found.missing),
            (Paths{"/control_core", "/memory/hugepages", "/ports/0/device", "/api/listen",
                   "/mirroring/listen", "/state_directory"}));
}

TEST_F(Check, AReceiveQueueTooShortForABurstIsAWarning) {
  bootstrap["ports"][1]["device"] = "net_af_packet0,iface=lo,framecnt=512";
  const Findings found = examined();
  EXPECT_EQ(paths_of(found.warnings), (Paths{"/worker_cores/0", "/ports/1/device"}));
  EXPECT_TRUE(found.is_good());
}

TEST_F(Check, AReplayNeedsNoCoresOfWorkersAndNoAddresses) {
  bootstrap["worker_cores"] = {0, 1'023};
  bootstrap["api"]["listen"] = "unix:absent/api.sock";
  EXPECT_EQ(paths_of(examined(true).missing), Paths{});
  EXPECT_EQ(paths_of(examined().missing), (Paths{"/worker_cores/1", "/api/listen"}));
}

TEST_F(Check, AFileInTheSocketsPlaceIsInTheWay) {
  bootstrap["api"]["listen"] = "unix:first.json";
  EXPECT_EQ(paths_of(examined().missing), Paths{"/api/listen"});
  bootstrap["api"]["listen"] = "unix:new.sock";
  EXPECT_EQ(paths_of(examined().missing), Paths{});
}

TEST_F(Check, LimitsThatDoNotFitAreMissingMemory) {
  bootstrap["limits"]["persistence_entries"] = 1 << 24;
  const Findings found = examined();
  EXPECT_TRUE(found.is_right());
  ASSERT_EQ(paths_of(found.missing), Paths{"/memory/size_mb"});
}

TEST_F(Check, ADocumentWhoseSourcePortsDoNotFitIsWrong) {
  bootstrap["limits"]["packet_buffers"] = 16'384;
  bootstrap["snat"] = {"10.2.0.32/27"};  // 32 addresses for each of two servers
  const Findings found = examined();
  ASSERT_EQ(paths_of(found.document_wrong), Paths{"/Pool"});
  EXPECT_NE(found.document_wrong.front().message.find("(64 blocks of 129 KB"), std::string::npos);
}

}  // namespace
}  // namespace limpet::engine
