// limpetctl: its texts, and the program itself against the real API server with a fake engine.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "control/cli/location.h"
#include "control/cli/table.h"
#include "tests/unit/api_fixture.h"

namespace limpet::cli {
namespace {

using api::ApiServer;
using api::TemporaryFolder;
using nlohmann::json;

TEST(Location, reads_http_https_and_unix) {
  EXPECT_EQ(parse_location("http://10.0.0.1:81")->to_string(), "http://10.0.0.1:81");
  EXPECT_EQ(parse_location("http://se1/")->to_string(), "http://se1:9080");
  EXPECT_EQ(parse_location("https://[fd00::1]:443")->host, "fd00::1");
  EXPECT_EQ(parse_location("https://[fd00::1]:443")->authority(), "[fd00::1]:443");
  EXPECT_TRUE(parse_location("https://se1")->tls);
  EXPECT_EQ(parse_location("unix:/run/limpet.sock")->unix_path, "/run/limpet.sock");
}

TEST(Location, refuses_everything_else) {
  for (const char* bad : {"", "se1", "se1:9080", "ftp://se1", "http://", "http://:80", "unix:",
                          "http://se1:0", "http://se1:65536", "http://se1:x", "http://se1:080",
                          "http://se1/v1", "http://[fd00::1", "http://[fd00::1]x", "http://u@se1"})
    EXPECT_FALSE(parse_location(bad)) << bad;
}

TEST(PercentEncode, keeps_only_unreserved_characters) {
  EXPECT_EQ(percent_encode("a-b.c_d~9"), "a-b.c_d~9");
  EXPECT_EQ(percent_encode("a b&c=/+\xc3"), "a%20b%26c%3D%2F%2B%C3");
}

TEST(Table, aligns_columns_and_prints_its_header_once) {
  Table table({"A", "LONG"});
  table.add({"wider", "x"});
  EXPECT_EQ(table.take(), "A      LONG\nwider  x\n");
  table.add({"y", "z"});
  EXPECT_EQ(table.take(1), " y      z\n");
}

TEST(Table, defuses_control_characters) {
  EXPECT_EQ(printable("a\x1b[2Jb\n\x7f"), "a?[2Jb??");
}

struct Outcome {
  int status = -1;
  std::string out;  // standard output and standard error
};

// Runs limpetctl with `arguments` (shell syntax).
Outcome run(const std::string& arguments) {
  Outcome result;
  const std::string command = std::string(LIMPETCTL_PATH) + " " + arguments + " 2>&1";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char bytes[4096];
  for (std::size_t n = 0; (n = std::fread(bytes, 1, sizeof(bytes), pipe)) > 0;)
    result.out.append(bytes, n);
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class LimpetctlTest : public testing::Test {
 protected:
  Outcome ctl(const std::string& arguments) {
    return run("--engine " + api_.url() + " " + arguments);
  }

  TemporaryFolder folder_;
  ApiServer api_{ApiServer::loopback()};
};

TEST_F(LimpetctlTest, shows_the_status_for_people) {
  const Outcome r = ctl("status");
  EXPECT_EQ(r.status, 0);
  for (const char* part : {"se1  version 0.1.0  generation 3  up 1m 1s", "truncated 2",
                           "\nweb  OPER_UP  serving  connections 5  pool web-pool\n",
                           "\nshop (tenant blue)  OPER_DISABLED  not serving: TCP proxy is not "
                           "built yet  connections 0  pool shop-pool\n",
                           "10.2.0.2:80  OPER_DOWN  api      yes      0            0        "
                           "planned work\n",
                           "group  se1    owner", "PEER  STATE   SYNCED  LAG_ENTRIES  LAG(ms)"})
    EXPECT_NE(r.out.find(part), std::string::npos) << part << "\n" << r.out;
}

TEST_F(LimpetctlTest, prints_the_raw_answer_when_asked) {
  const Outcome r = ctl("--json status");
  EXPECT_EQ(r.status, 0);
  EXPECT_EQ(json::parse(r.out)["virtual_services"][0]["servers"][1]["connections"], 5);
}

TEST_F(LimpetctlTest, lists_entries_as_nsx_does) {
  const Outcome r = ctl("get persistence-tables --virtual-service web --client 10.1.0.2");
  EXPECT_EQ(r.status, 0);
  EXPECT_EQ(r.out,
            "KEY       DADDR     DPORT  LIFE_TIME(s)  NUM_SESSIONS\n"
            "10.1.0.0  10.2.0.3  80     -             1\n");
  api_.on_loop([this] {
    EXPECT_EQ(api_.backend.last_filter.virtual_service, "web");
    EXPECT_TRUE(api_.backend.last_filter.client.has_value());
  });
}

TEST_F(LimpetctlTest, lists_the_port_of_the_client_as_a_star) {
  api_.on_loop([this] { api_.backend.row_server = "[fd00::3]:*"; });
  EXPECT_EQ(ctl("get persistence-tables --tenant blue --server '[fd00::3]:*'").out,
            "KEY       DADDR    DPORT  LIFE_TIME(s)  NUM_SESSIONS\n"
            "10.1.0.0  fd00::3  *      -             1\n");
  api_.on_loop([this] {
    EXPECT_EQ(api_.backend.last_filter.tenant, "blue");
    EXPECT_EQ(api_.backend.last_filter.server->port, std::nullopt);
  });
}

TEST_F(LimpetctlTest, follows_cursors_to_the_end_of_a_listing) {
  api_.on_loop([this] { api_.backend.rows = 2500; });
  EXPECT_EQ(lines_of(ctl("get persistence-tables").out), 2501u);
  const json whole = json::parse(ctl("get persistence-tables --json").out);
  EXPECT_EQ(whole["results"].size(), 2500u);
  EXPECT_EQ(whole["count"], 2500);
  EXPECT_TRUE(whole["next"].is_null());
}

TEST_F(LimpetctlTest, lists_no_more_than_the_limit) {
  api_.on_loop([this] { api_.backend.rows = 2500; });
  EXPECT_EQ(lines_of(ctl("get persistence-tables --limit 7").out), 8u);
  EXPECT_EQ(lines_of(ctl("get persistence-tables --limit 1500").out), 1501u);
}

TEST_F(LimpetctlTest, clears_entries) {
  const Outcome r = ctl("clear persistence-tables --server '[fd00::3]:80'");
  EXPECT_EQ(r.status, 0);
  EXPECT_EQ(r.out, "removed 1\n");
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.last_filter.server->port; }), 80);
}

TEST_F(LimpetctlTest, does_not_clear_everything_for_an_empty_filter) {
  EXPECT_EQ(ctl("clear persistence-tables --pool ''").status, 2);
}

TEST_F(LimpetctlTest, applies_a_file_and_prints_its_warnings) {
  const Outcome r = ctl("apply " + folder_.write("good.json", "{}"));
  EXPECT_EQ(r.status, 0);
  EXPECT_EQ(r.out,
            "warning: /Pool/0/color: unknown field\napplied generation 7\n"
            "1 of 2 virtual services are served\n");
  EXPECT_EQ(ctl("apply - < " + folder_.file("good.json")).status, 0);
}

TEST_F(LimpetctlTest, applies_what_leaves_nothing_served_only_when_it_is_meant) {
  const std::string file = folder_.write("none.json", R"({"name": "serves none"})");
  const Outcome refused = ctl("apply " + file);
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.out,
            "error: the document serves none of its 2 virtual services; 1 are served now\n"
            "--yes applies it all the same\n");
  EXPECT_TRUE(api_.on_loop([this] { return api_.backend.last_put.if_serving; }));
  EXPECT_EQ(ctl("apply --yes " + file).status, 0);
  EXPECT_FALSE(api_.on_loop([this] { return api_.backend.last_put.if_serving; }));
  const Outcome older = ctl("apply " + folder_.write("older.json", "older"));
  EXPECT_EQ(older.status, 1);
  EXPECT_EQ(older.out, "error: /generation: older than running\n");
}

TEST_F(LimpetctlTest, prints_every_error_of_a_refused_file) {
  const Outcome r = ctl("apply " + folder_.write("bad.json", "bad"));
  EXPECT_EQ(r.status, 1);
  EXPECT_EQ(r.out,
            "error: /Pool/0/servers/1/ip/addr: not an address\n"
            "error: /VirtualService/0/name: is required\n");
}

TEST_F(LimpetctlTest, gets_the_refusal_of_a_file_that_is_too_large) {
  const Outcome r =
      ctl("apply " + folder_.write("large.json", std::string(base::kRequestBodyBytesMax + 1, ' ')));
  EXPECT_EQ(r.status, 1);
  EXPECT_EQ(r.out, "error: the body is larger than 64 MiB\n");
}

TEST_F(LimpetctlTest, marks_servers) {
  EXPECT_EQ(ctl("mark web-pool 10.2.0.3:80 down --reason 'planned work'").status, 0);
  api_.on_loop([this] {
    ASSERT_EQ(api_.backend.marks.size(), 1u);
    EXPECT_EQ(api_.backend.marks[0].up, false);
    EXPECT_EQ(api_.backend.marks[0].reason, "planned work");
  });
  EXPECT_EQ(ctl("mark web-pool '10.2.0.3:*' down --tenant blue").status, 0);
  api_.on_loop([this] {
    EXPECT_EQ(api_.backend.marks[0].server, "10.2.0.3:*");
    EXPECT_EQ(api_.backend.marks[0].tenant, "blue");
  });
  EXPECT_EQ(ctl("mark web-pool 10.2.0.3:80 clear").status, 0);
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.marks[0].tenant; }), "");
  EXPECT_EQ(api_.on_loop([this] { return api_.backend.marks[0].up; }), std::nullopt);
  const Outcome refused = ctl("mark nowhere 10.2.0.3:80 up");
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.out, "error: /0/pool: there is no pool \"nowhere\"\n");
}

TEST_F(LimpetctlTest, explains_a_decision) {
  const Outcome r = ctl("explain web 10.1.0.2");
  EXPECT_EQ(r.status, 0);
  EXPECT_EQ(r.out,
            "10.1.0.2 to web: forward to 10.2.0.3:80 (entry)\n"
            "entry: 10.1.0.2 -> 10.2.0.3:80, connections 1, timer stopped\n"
            "home core: 1\n"
            "CANDIDATE    STATE      WHY_NOT\n"
            "10.2.0.2:80  OPER_DOWN  down\n"
            "10.2.0.3:80  OPER_UP    -\n"
            "1. the home of key 10.1.0.2 is the worker on core 1\n"
            "2. the binding names 10.2.0.3:80\n");
  api_.on_loop([this] { EXPECT_EQ(api_.backend.last_explain.tenant, std::nullopt); });
  EXPECT_EQ(ctl("explain web 10.1.0.2 --tenant 'a b'").status, 0);
  api_.on_loop([this] { EXPECT_EQ(api_.backend.last_explain.tenant, "a b"); });
  EXPECT_EQ(ctl("explain nowhere 10.1.0.2").status, 1);
  EXPECT_EQ(ctl("explain web nobody").status, 1);
}

TEST_F(LimpetctlTest, shows_all_events_after_a_number) {
  api_.on_loop([this] {
    for (int i = 0; i < 1200; ++i)
      api_.events.record({}, api::kNoon, telemetry::EventName::kServerUp, std::to_string(i), "up");
  });
  EXPECT_EQ(lines_of(ctl("events").out), 1200u);
  EXPECT_EQ(ctl("events --after 1199").out,
            "1200  2026-01-31T12:00:00.000Z  SERVER_UP  1199  up\n");
}

TEST_F(LimpetctlTest, follows_events_until_the_engine_is_gone) {
  std::FILE* pipe = ::popen(
      (std::string(LIMPETCTL_PATH) + " --engine " + api_.url() + " events --follow 2>&1").c_str(),
      "r");
  ASSERT_NE(pipe, nullptr);
  api_.on_loop(
      [this] { api_.events.record({}, api::kNoon, telemetry::EventName::kVsUp, "web", "up"); });
  char line[256] = "";
  EXPECT_NE(std::fgets(line, sizeof(line), pipe), nullptr);
  EXPECT_EQ(std::string(line), "1  2026-01-31T12:00:00.000Z  VS_UP  web  up\n");
  api_.on_loop([this] { api_.server->close(); });
  while (std::fgets(line, sizeof(line), pipe) != nullptr) {
  }
  const int status = ::pclose(pipe);
  EXPECT_EQ(WEXITSTATUS(status), 3);
}

TEST_F(LimpetctlTest, shows_peers) {
  EXPECT_EQ(ctl("peers").out,
            "PEER  STATE   SYNCED  LAG_ENTRIES  LAG(ms)  RX_BYTES  TX_BYTES  RESYNCS            "
            "REJECTED\n"
            "se2   synced  yes     4            20       300       400       1 full, 2 resumed  "
            "5\n"
            "connections of strangers rejected: tls 3\n");
}

TEST_F(LimpetctlTest, finds_the_engine_in_the_environment) {
  EXPECT_EQ(run("--version").status, 0);
  ::setenv("LIMPET_ENGINE", api_.url().c_str(), 1);
  EXPECT_EQ(run("peers").status, 0);
  ::unsetenv("LIMPET_ENGINE");
}

TEST_F(LimpetctlTest, tells_usage_errors_by_status_2) {
  for (const char* bad : {"",
                          "nonsense",
                          "status now",
                          "get",
                          "get tables",
                          "apply",
                          "apply /nonexistent/file",
                          "mark web-pool 10.2.0.3:80",
                          "mark web-pool 10.2.0.3:80 sideways",
                          "explain web",
                          "events --after x",
                          "events --after -1",
                          "get persistence-tables --limit 0",
                          "--nonsense",
                          "status --follow",
                          "status --yes",
                          "apply --tenant t /dev/null",
                          "explain web 10.1.0.2 --tenant ''",
                          "mark web-pool 10.2.0.3:80 up --tenant ''",
                          "--controller http://x status",
                          "--cert x status",
                          "peers --pool x"})
    EXPECT_EQ(ctl(bad).status, 2) << bad;
  EXPECT_EQ(run("--engine nonsense status").status, 2);
  EXPECT_EQ(run("--help").status, 0);
}

TEST(Limpetctl, tells_an_unreachable_engine_by_status_3) {
  EXPECT_EQ(run("--engine http://127.0.0.1:1 status").status, 3);
  EXPECT_EQ(run("--engine unix:/nonexistent/socket status").status, 3);
  EXPECT_EQ(run("--engine unix:" + std::string(200, 'x') + " status").status, 3);
}

TEST(Limpetctl, speaks_to_a_unix_socket) {
  const TemporaryFolder folder;
  const std::string path = folder.file("api.sock");
  ApiServer api({.listen = config::UnixSocketPath{path}, .tls = std::nullopt});
  EXPECT_EQ(run("--engine unix:" + path + " peers").status, 0);
}

TEST(Limpetctl, speaks_tls_with_a_client_certificate) {
  const TemporaryFolder folder;
  api::make_certificates(folder);
  ApiServer api(ApiServer::tls(folder));
  api.on_loop([&] { api.backend.rows = 2500; });
  const std::string url = "--engine https://127.0.0.1:" + std::to_string(api.port);
  const std::string ca = " --ca " + folder.file("authority.pem");
  const auto certificate = [&](const std::string& name) {
    return " --cert " + folder.file(name + ".pem") + " --key " + folder.file(name + ".key");
  };
  const Outcome listing = run(url + ca + certificate("client") + " get persistence-tables");
  EXPECT_EQ(listing.status, 0) << listing.out;
  EXPECT_EQ(lines_of(listing.out), 2501u);
  EXPECT_EQ(run(url + ca + " peers").status, 3);
  EXPECT_EQ(run(url + ca + certificate("stranger") + " peers").status, 3);
  EXPECT_EQ(run(url + certificate("client") + " peers").status, 3);
  EXPECT_EQ(run(url + " --ca /nonexistent peers").status, 3);
  const std::string by_name = "--engine https://localhost:" + std::to_string(api.port);
  EXPECT_EQ(run(by_name + ca + certificate("client") + " peers").status, 3);
}

}  // namespace
}  // namespace limpet::cli
