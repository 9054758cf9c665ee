// The API apart from sockets: targets and queries, health marks, JSON and Prometheus texts.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "control/api/health_marks.h"
#include "control/api/prometheus.h"
#include "control/api/query.h"
#include "control/api/render.h"
#include "control/api/service.h"
#include "tests/unit/api_fixture.h"

namespace limpet::api {
namespace {

using nlohmann::json;

Target target(std::string_view text) {
  auto parsed = parse_target(text);
  EXPECT_TRUE(parsed.ok());
  return parsed.ok() ? parsed.value() : Target{};
}

TEST(ParseTarget, decodes_path_and_parameters) {
  const Target t = target("/v1/%65vents?a=1%262&b=x+y&c&d=%2B");
  EXPECT_EQ(t.path, "/v1/events");
  ASSERT_EQ(t.query.size(), 4u);
  EXPECT_EQ(t.query[0], std::pair(std::string("a"), std::string("1&2")));
  EXPECT_EQ(t.query[1].second, "x y");
  EXPECT_EQ(t.query[2], std::pair(std::string("c"), std::string()));
  EXPECT_EQ(t.query[3].second, "+");
}

TEST(ParseTarget, takes_the_absolute_form) {
  EXPECT_EQ(target("http://se1:9080/v1/status?x=1").path, "/v1/status");
  EXPECT_EQ(target("http://se1").path, "/");
}

TEST(ParseTarget, refuses_what_is_no_target) {
  for (const char* bad : {"*", "v1/status", "/%4", "/%zz", "/a?x=%", "/a?%g1=1", "/a#b", "/%"})
    EXPECT_FALSE(parse_target(bad).ok()) << bad;
}

TEST(ParseServer, takes_addresses_and_endpoints_of_both_families) {
  EXPECT_EQ(parse_server("10.2.0.3")->port, std::nullopt);
  EXPECT_EQ(parse_server("10.2.0.3:80")->port, 80);
  EXPECT_EQ(parse_server("fd00::3")->port, std::nullopt);
  EXPECT_EQ(parse_server("[fd00::3]")->address, *net::Address::parse("fd00::3"));
  EXPECT_EQ(parse_server("[fd00::3]:443")->port, 443);
  for (const char* bad :
       {"", "web", "10.2.0.3:", "10.2.0.3:65536", "10.2.0.3:080", "[10.2.0.3]", "[fd00::3",
        "fd00::3:*", "[10.2.0.3]:*", "web:*", ":*", "10.2.0.3:**", "10.2.0.3:8*"})
    EXPECT_FALSE(parse_server(bad)) << bad;
}

TEST(ParseServer, takes_a_star_for_any_port) {
  EXPECT_EQ(parse_server("10.2.0.3:*")->address, *net::Address::parse("10.2.0.3"));
  EXPECT_EQ(parse_server("10.2.0.3:*")->port, std::nullopt);
  EXPECT_EQ(parse_server("[fd00::3]:*")->address, *net::Address::parse("fd00::3"));
  EXPECT_EQ(parse_server("[fd00::3]:*")->port, std::nullopt);
}

TEST(QueryReader, reports_unknown_repeated_and_wrong_parameters_together) {
  const Target t = target("/x?limit=0&client=web&server=1.2.3&color=red&limit=5");
  QueryReader query(t, {"limit", "client", "server"});
  query.number("limit", 1, 1000, 100);
  query.entry_filter();
  ASSERT_EQ(query.errors().size(), 5u);
  EXPECT_EQ(query.errors()[0].path, "/query/color");
  EXPECT_EQ(query.errors()[1].path, "/query/limit");
  EXPECT_EQ(query.errors()[2].path, "/query/limit");
  EXPECT_EQ(query.errors()[3].path, "/query/client");
  EXPECT_EQ(query.errors()[4].path, "/query/server");
}

TEST(QueryReader, tells_an_address_from_a_prefix) {
  const Target address = target("/x?client=10.1.0.2");
  const EntryFilter one = QueryReader(address, {"client"}).entry_filter();
  EXPECT_EQ(std::get<net::Address>(*one.client), *net::Address::parse("10.1.0.2"));
  const Target prefix = target("/x?client=fd00::1/64");
  const EntryFilter many = QueryReader(prefix, {"client"}).entry_filter();
  EXPECT_EQ(std::get<net::Prefix>(*many.client).to_string(), "fd00::/64");
}

TEST(QueryReader, wants_the_port_of_a_link_local_client) {
  const auto client = [](const char* text) {
    const Target t = target(std::string("/x?client=") + text);
    QueryReader query(t, {"client"});
    const EntryFilter filter = query.entry_filter();
    if (!query.errors().empty()) return query.errors().front().message;
    const auto* one = std::get_if<net::Address>(&*filter.client);
    return one != nullptr ? one->to_string() : std::get<net::Prefix>(*filter.client).to_string();
  };
  EXPECT_EQ(client("fe80::2%251"), "fe80::2%1");
  EXPECT_EQ(client("fe80::%252/64"), "fe80::%2/64");
  EXPECT_EQ(client("fe80::/10"), "fe80::/10");
  EXPECT_EQ(client("fe80::2"),
            "\"fe80::2\" is another client on each port: fe80::2%1 on the first");
  EXPECT_EQ(client("fe80::/64"),
            "\"fe80::\" is another client on each port: fe80::%1 on the first");
  const Target explain = target("/x?client=fe80::2");
  QueryReader query(explain, {"client"});
  query.required_address("client");
  EXPECT_EQ(query.errors().size(), 1u);
}

TEST(QueryReader, treats_an_empty_filter_as_absent) {
  const Target t = target("/x?virtual_service=&pool=&client=&server=&limit=&cursor=");
  QueryReader query(t, {"virtual_service", "pool", "client", "server", "limit", "cursor"});
  const EntryFilter filter = query.entry_filter();
  EXPECT_EQ(query.number("limit", 1, 1000, 100), 100u);
  EXPECT_TRUE(query.errors().empty());
  EXPECT_FALSE(filter.virtual_service || filter.pool || filter.client || filter.server);
}

TEST(HealthMarks, reads_up_down_and_take_back) {
  const auto marks = parse_health_marks(R"([
    {"pool": "p", "server": "10.2.0.3:80", "oper_status": "OPER_DOWN", "reason": "planned"},
    {"pool": "p", "server": "10.2.0.4", "oper_status": "OPER_UP", "tenant": "blue"},
    {"pool": "p", "server": "10.2.0.5", "oper_status": null}])");
  ASSERT_TRUE(marks.ok());
  ASSERT_EQ(marks.value().size(), 3u);
  EXPECT_EQ(marks.value()[0].up, false);
  EXPECT_EQ(marks.value()[0].reason, "planned");
  EXPECT_EQ(marks.value()[0].tenant, "");
  EXPECT_EQ(marks.value()[1].up, true);
  EXPECT_EQ(marks.value()[1].tenant, "blue");
  EXPECT_EQ(marks.value()[2].up, std::nullopt);
}

TEST(HealthMarks, finds_every_error_with_its_path) {
  const auto marks = parse_health_marks(R"([
    {"server": 5, "oper_status": "UP", "reason": 1, "tenant": [], "a/b~": 1}, 7, {"pool": "", "server": "s"}])");
  ASSERT_FALSE(marks.ok());
  std::vector<std::string> paths;
  for (const base::Error& error : marks.errors()) paths.push_back(error.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"/0/a~1b~0", "/0/pool", "/0/server", "/0/oper_status",
                                             "/0/reason", "/0/tenant", "/1", "/2/pool",
                                             "/2/oper_status"}));
}

TEST(HealthMarks, refuses_what_is_not_an_array) {
  EXPECT_FALSE(parse_health_marks("").ok());
  EXPECT_FALSE(parse_health_marks("{}").ok());
  EXPECT_FALSE(parse_health_marks("[").ok());
  EXPECT_FALSE(parse_health_marks(std::string(100'000, '[')).ok());
  EXPECT_EQ(read_health_marks(json::parse("[5]"), "/3/health_marks").errors()[0].path,
            "/3/health_marks/0");
}

TEST(Render, prints_an_entry_as_specified) {
  EXPECT_EQ(to_json(EntryPage{.count = 1, .rows = {sample_row("10.1.0.2")}, .next = std::nullopt}),
            R"({"count":1,"results":[{"virtual_service":"web","pool":"web-pool",)"
            R"("profile":"sticky","type":"PERSISTENCE_TYPE_CLIENT_IP_ADDRESS","key":"10.1.0.2",)"
            R"("server":"10.2.0.3:80","connections":1,"life_time_s":null,)"
            R"("created":"2026-01-31T12:00:00.000Z","epoch":0,"origin":"se1"}],"next":null})");
}

TEST(Render, prints_small_answers_as_objects) {
  EXPECT_EQ(to_json(EntriesRemoved{3}), R"({"removed":3})");
  EXPECT_EQ(to_json(MarksApplied{2}), R"({"applied":2})");
  EXPECT_EQ(to_json(ConfigApplied{7, {}, 1, 2}),
            R"({"generation":7,"served":1,"virtual_services":2,"warnings":[]})");
  EXPECT_EQ(to_json(base::Errors{{"/a", "b"}}), R"({"errors":[{"path":"/a","message":"b"}]})");
  EXPECT_EQ(to_json(base::Errors{}), R"({"errors":[]})");
  EXPECT_EQ(to_json(telemetry::EventPage{{}, 9}), R"({"events":[],"next":9})");
}

TEST(Render, replaces_bytes_that_are_not_utf8) {
  EXPECT_EQ(to_json(base::Errors{{"", "\xff"}}),
            "{\"errors\":[{\"path\":\"\",\"message\":\"\xEF\xBF\xBD\"}]}");
}

TEST(Render, prints_all_fields_of_the_status) {
  StatusView view;
  view.name = "se1";
  view.ports = {{"front", "02:00:00:00:00:01", "up", 1, 2, {{"truncated", 3}}}};
  view.workers = {{1, 12.5, 4, 5}};
  view.virtual_services = {
      {.name = "web",
       .tenant = "blue",
       .uuid = "virtualservice-1",
       .serving = true,
       .reason = std::nullopt,
       .oper_status = "OPER_UP",
       .connections = 6,
       .pool = "p",
       .servers = {{"10.2.0.2:80", "OPER_UP", std::nullopt, StateSource::kMonitor, true, 7, 8, "p"},
                   {"10.2.0.3:*", "OPER_DOWN", "no route to it", StateSource::kDefault, true, 0, 0,
                    "q"}}},
      {.name = "off", .serving = false, .reason = "disabled", .servers = {}}};
  view.groups = {{"g", "se1", std::string(name_of(failover::State::kOwner))}};
  view.peers = {{"se2", "synced", true, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}};
  view.strangers = {{"tls", 19}};
  EXPECT_EQ(json::parse(to_json(view)), json::parse(R"({"name": "se1", "version": "",
    "generation": 0, "uptime_s": 0,
    "ports": [{"name": "front", "mac": "02:00:00:00:00:01", "link": "up", "rx_packets": 1,
               "tx_packets": 2, "drops": {"truncated": 3}}],
    "workers": [{"core": 1, "busy_percent": 12.5, "flows": 4, "entries": 5}],
    "virtual_services": [
      {"name": "web", "tenant": "blue", "uuid": "virtualservice-1", "serving": true,
       "reason": null, "oper_status": "OPER_UP", "connections": 6, "pool": "p",
       "servers": [{"server": "10.2.0.2:80", "oper_status": "OPER_UP", "reason": null,
                    "source": "monitor", "enabled": true, "connections": 7, "entries": 8,
                    "pool": "p"},
                   {"server": "10.2.0.3:*", "oper_status": "OPER_DOWN", "reason": "no route to it",
                    "source": "default", "enabled": true, "connections": 0, "entries": 0,
                    "pool": "q"}]},
      {"name": "off", "tenant": "", "uuid": "", "serving": false, "reason": "disabled",
       "oper_status": "", "connections": 0, "pool": "", "servers": []}],
    "groups": [{"name": "g", "owner": "se1", "state": "owner"}],
    "peers": [{"name": "se2", "state": "synced", "synced": true, "lag_entries": 9,
               "lag_ms": 10, "bytes_received": 11, "bytes_sent": 12, "updates_received": 13,
               "updates_sent": 14, "resyncs": {"full": 15, "resumed": 16}, "held_back": 17,
               "rejected": 18}],
    "strangers_rejected": {"tls": 19}})"));
}

TEST(Prometheus, writes_help_and_type_before_samples) {
  MetricsView view;
  view.ports = {{.name = "front",
                 .link_up = true,
                 .rx_packets = 18446744073709551615u,
                 .tx_packets = 2,
                 .rx_bytes = 3,
                 .tx_bytes = 4}};
  const std::string text = to_prometheus(view);
  EXPECT_NE(text.find("# HELP limpet_packets_total Packets received and sent.\n"
                      "# TYPE limpet_packets_total counter\n"
                      "limpet_packets_total{port=\"front\",direction=\"rx\"} "
                      "18446744073709551615\n"
                      "limpet_packets_total{port=\"front\",direction=\"tx\"} 2\n"),
            std::string::npos);
  EXPECT_NE(text.find("\n# TYPE limpet_port_up gauge\nlimpet_port_up{port=\"front\"} 1\n"),
            std::string::npos);
}

TEST(Prometheus, sums_lookups_over_workers_and_keeps_them_apart_by_core) {
  MetricsView view;
  view.workers = {{.core = 1, .busy_ratio = 0.25, .lookups = {.hit = 5, .created = 1}},
                  {.core = 2, .lookups = {.hit = 2}}};
  const std::string text = to_prometheus(view);
  for (const char* line :
       {"\nlimpet_persistence_lookups_total{result=\"hit\"} 7\n",
        "\nlimpet_persistence_lookups_total{result=\"new\"} 1\n",
        "\nlimpet_persistence_lookups_total{result=\"refused\"} 0\n",
        "\nlimpet_worker_persistence_lookups_total{core=\"2\",result=\"hit\"} 2\n",
        "\nlimpet_worker_busy_ratio{core=\"1\"} 0.25\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
}

TEST(Prometheus, escapes_labels) {
  MetricsView view;
  view.drops = {{"a\"b\\c\nd\xff\xc3\xa9", 1}};
  EXPECT_NE(to_prometheus(view).find("limpet_drops_total{reason=\"a\\\"b\\\\c\\nd?\xc3\xa9\"} 1\n"),
            std::string::npos);
}

TEST(Prometheus, writes_histograms_as_cumulative_buckets_sum_and_count) {
  telemetry::DurationHistogram histogram;
  histogram.observe(timing::milliseconds(1));
  histogram.observe(timing::milliseconds(3));
  MetricFamily family{"limpet_late_seconds", "How late.", MetricType::kHistogram, {}};
  add(&family, {{"peer", "se2"}}, histogram);
  MetricsView view;
  view.more.push_back(std::move(family));
  const std::string text = to_prometheus(view);
  for (const char* line : {"\n# TYPE limpet_late_seconds histogram\n"
                           "limpet_late_seconds_bucket{peer=\"se2\",le=\"0.0001\"} 0\n",
                           "\nlimpet_late_seconds_bucket{peer=\"se2\",le=\"0.001\"} 1\n",
                           "\nlimpet_late_seconds_bucket{peer=\"se2\",le=\"0.003\"} 2\n",
                           "\nlimpet_late_seconds_bucket{peer=\"se2\",le=\"+Inf\"} 2\n",
                           "\nlimpet_late_seconds_sum{peer=\"se2\"} 0.004\n"
                           "limpet_late_seconds_count{peer=\"se2\"} 2\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
}

TEST(Prometheus, takes_a_family_for_a_gauge_unless_told_otherwise) {
  MetricsView view;
  view.more = {{"limpet_state", "The state.", {}, {{{}, 1}}}};
  EXPECT_NE(to_prometheus(view).find("\n# TYPE limpet_state gauge\nlimpet_state 1\n"),
            std::string::npos);
}

TEST(Prometheus, has_no_family_twice_and_total_on_all_counters) {
  MetricsView view;
  view.more = {{"limpet_events_total", "Events.", MetricType::kCounter, {{{{"name", "x"}}, 2.5}}}};
  std::istringstream lines(to_prometheus(view));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    const std::string name = line.substr(7, line.find(' ', 7) - 7);
    EXPECT_EQ(name.ends_with("_total"), line.ends_with(" counter")) << line;
    EXPECT_EQ(std::count(names.begin(), names.end(), name), 0) << name;
    names.push_back(name);
  }
  EXPECT_EQ(names.back(), "limpet_events_total");
}

// The series of an exposition, "name{labels}" without the value, in order.
std::vector<std::string> series_of(const std::string& text) {
  std::vector<std::string> series;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("#")) series.push_back(line.substr(0, line.rfind(' ')));
  return series;
}

testing::AssertionResult no_series_twice(const std::vector<std::string>& series) {
  std::set<std::string> seen;
  for (const std::string& one : series)
    if (!seen.insert(one).second) return testing::AssertionFailure() << one << " is there twice";
  return testing::AssertionSuccess();
}

TEST(Prometheus, tells_virtual_services_of_one_name_apart) {
  MetricsView view;
  view.virtual_services = {{.name = "web", .tenant = "blue", .uuid = "vs-1"},
                           {.name = "web", .tenant = "red", .uuid = "vs-2"},
                           {.name = "dns", .tenant = "red", .uuid = "vs-3"},
                           {.name = "dns", .tenant = "red", .uuid = "vs-4"}};
  const auto series = series_of(to_prometheus(view));
  EXPECT_TRUE(no_series_twice(series));
  for (const char* one :
       {"limpet_connections{tenant=\"blue\",virtual_service=\"web\"}",
        "limpet_connections_total{tenant=\"red\",virtual_service=\"web\"}",
        "limpet_virtual_service_up{tenant=\"red\",virtual_service=\"dns\",uuid=\"vs-3\"}",
        "limpet_persistence_entries{tenant=\"red\",virtual_service=\"dns\",uuid=\"vs-4\"}"})
    EXPECT_EQ(std::count(series.begin(), series.end(), one), 1) << one;
}

TEST(Prometheus, tells_servers_of_one_name_apart) {
  MetricsView view;
  const auto server = [](const char* tenant, const char* pool, const char* name,
                         const char* uuid = "") {
    return ServerMetrics{
        .tenant = tenant, .pool = "p", .pool_uuid = pool, .server = name, .uuid = uuid};
  };
  view.servers = {server("blue", "pool-1", "10.2.0.2:80"),
                  server("red", "pool-2", "10.2.0.2:80", "vm-0"),
                  server("green", "pool-3", "10.2.0.2:80"),  // two clouds' pools of one name
                  server("green", "pool-4", "10.2.0.2:80"),
                  server("green", "pool-4", "10.2.0.3:80", "vm-1"),  // and twins in the second
                  server("green", "pool-4", "10.2.0.3:80", "vm-2"),
                  server("black", "pool-5", "10.2.0.3:80", "vm-1"),
                  server("black", "pool-5", "10.2.0.3:80", "vm-2")};
  const auto series = series_of(to_prometheus(view));
  EXPECT_TRUE(no_series_twice(series));
  for (const char* one :
       {"limpet_server_up{tenant=\"blue\",pool=\"p\",server=\"10.2.0.2:80\"}",
        "limpet_server_up{tenant=\"red\",pool=\"p\",server=\"10.2.0.2:80\"}",
        "limpet_server_up{tenant=\"green\",pool=\"p\",pool_uuid=\"pool-3\",server=\"10.2.0.2:80\"}",
        "limpet_server_up{tenant=\"green\",pool=\"p\",pool_uuid=\"pool-4\",server=\"10.2.0.3:80\","
        "uuid=\"vm-2\"}",
        "limpet_server_up{tenant=\"black\",pool=\"p\",server=\"10.2.0.3:80\",uuid=\"vm-1\"}"})
    EXPECT_EQ(std::count(series.begin(), series.end(), one), 1) << one;
  EXPECT_EQ(std::count_if(series.begin(), series.end(),
                          [](const auto& s) { return s.starts_with("limpet_server_up{"); }),
            8);
}

// Prometheus takes nothing of a scrape with a series that is there twice.
TEST(Prometheus, writes_what_is_the_same_in_everything_once) {
  MetricsView view;
  view.virtual_services = {{.name = "web", .tenant = "t", .uuid = "u", .connections = 1},
                           {.name = "web", .tenant = "t", .uuid = "u", .connections = 2}};
  view.servers = {{.tenant = "t", .pool = "p", .pool_uuid = "u", .server = "s", .uuid = ""},
                  {.tenant = "t", .pool = "p", .pool_uuid = "u", .server = "s", .uuid = ""}};
  // Different bytes, but none of them UTF-8: the same label.
  view.virtual_services.push_back({.name = "\xfe", .tenant = "t", .uuid = "v"});
  view.virtual_services.push_back({.name = "\xff", .tenant = "t", .uuid = "w"});
  view.more = {{"limpet_group_owner",
                "Groups.",
                MetricType::kGauge,
                {{{{"group", "g"}}, 1}, {{{"group", "g"}}, 0}, {{{"group", "h"}}, 0}}}};
  const std::string text = to_prometheus(view);
  EXPECT_TRUE(no_series_twice(series_of(text)));
  for (const char* line :
       {"\nlimpet_connections{tenant=\"t\",virtual_service=\"web\",uuid=\"u\"} 1\n",
        "\nlimpet_connections{tenant=\"t\",virtual_service=\"?\",uuid=\"w\"} 0\n",
        "\nlimpet_group_owner{group=\"g\"} 1\n", "\nlimpet_group_owner{group=\"h\"} 0\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
}

class RouteTest : public testing::Test {
 protected:
  unsigned status_of(const RequestHead& head) {
    const auto routed = service_->route(head);
    const auto* refused = std::get_if<Response>(&routed);
    return refused == nullptr ? 0 : refused->status;
  }
  Route route(const RequestHead& head) {
    auto routed = service_->route(head);
    EXPECT_TRUE(std::holds_alternative<Route>(routed));
    return std::get<Route>(routed);
  }

  boost::asio::io_context io_;
  telemetry::EventLog events_{nullptr};
  FakeBackend backend_{io_};
  std::shared_ptr<Service> service_ = std::make_shared<Service>(io_, backend_, events_);
};

TEST_F(RouteTest, knows_exactly_the_specified_endpoints) {
  EXPECT_EQ(route({.method = "PUT", .target = "/v1/config"}).endpoint, Endpoint::kPutConfig);
  EXPECT_EQ(route({.method = "GET", .target = "/v1/config"}).endpoint, Endpoint::kGetConfig);
  EXPECT_EQ(route({.method = "POST", .target = "/v1/health-marks"}).endpoint,
            Endpoint::kHealthMarks);
  EXPECT_EQ(route({.method = "GET", .target = "/v1/persistence-tables"}).endpoint,
            Endpoint::kListEntries);
  EXPECT_EQ(route({.method = "DELETE", .target = "/v1/persistence-tables"}).endpoint,
            Endpoint::kDeleteEntries);
  EXPECT_EQ(route({.method = "GET", .target = "/v1/events"}).endpoint, Endpoint::kEvents);
  EXPECT_EQ(route({.method = "GET", .target = "/v1/status"}).endpoint, Endpoint::kStatus);
  EXPECT_EQ(route({.method = "GET", .target = "/metrics"}).endpoint, Endpoint::kMetrics);
  for (const char* unknown : {"/", "/v1", "/v1/config/", "/v2/config", "/v1/Config", "//v1/config"})
    EXPECT_EQ(status_of({.method = "GET", .target = unknown}), 404u) << unknown;
}

TEST_F(RouteTest, says_which_methods_a_resource_has) {
  const auto routed = service_->route({.method = "POST", .target = "/v1/config"});
  EXPECT_EQ(std::get<Response>(routed).status, 405u);
  EXPECT_EQ(std::get<Response>(routed).allow, "GET, PUT");
}

TEST_F(RouteTest, keeps_limits_within_bounds) {
  EXPECT_EQ(route({.method = "GET", .target = "/v1/persistence-tables"}).page.limit, 100u);
  EXPECT_EQ(route({.method = "GET", .target = "/v1/persistence-tables?limit=1000"}).page.limit,
            1000u);
  for (const char* bad : {"0", "1001", "-1", "1e2", "99999999999999999999"})
    EXPECT_EQ(
        status_of({.method = "GET", .target = std::string("/v1/persistence-tables?limit=") + bad}),
        400u)
        << bad;
}

TEST_F(RouteTest, does_not_delete_everything_for_an_empty_filter) {
  EXPECT_EQ(status_of({.method = "DELETE", .target = "/v1/persistence-tables?virtual_service="}),
            400u);
  EXPECT_EQ(status_of({.method = "DELETE", .target = "/v1/persistence-tables?limit=5"}), 400u);
}

TEST_F(RouteTest, requires_both_parameters_of_explain) {
  EXPECT_EQ(status_of({.method = "GET", .target = "/v1/explain?virtual_service=web"}), 400u);
  EXPECT_EQ(status_of({.method = "GET", .target = "/v1/explain?client=10.1.0.2"}), 400u);
  const Route r =
      route({.method = "GET", .target = "/v1/explain?virtual_service=web&client=10.1.0.2"});
  EXPECT_EQ(r.explain.client.to_string(), "10.1.0.2");
  EXPECT_EQ(r.explain.tenant, std::nullopt);
  EXPECT_EQ(route({.method = "GET",
                   .target = "/v1/explain?virtual_service=web&client=10.1.0.2&tenant=blue"})
                .explain.tenant,
            "blue");
}

TEST_F(RouteTest, takes_a_tenant_where_names_of_documents_are) {
  for (const char* method : {"GET", "DELETE"})
    EXPECT_EQ(route({.method = method, .target = "/v1/persistence-tables?pool=p&tenant=blue"})
                  .filter.tenant,
              "blue");
  EXPECT_EQ(status_of({.method = "DELETE", .target = "/v1/persistence-tables?pool=p&tenant="}),
            400u);
}

TEST_F(RouteTest, knows_when_a_document_has_to_serve) {
  EXPECT_FALSE(route({.method = "PUT", .target = "/v1/config"}).put.if_serving);
  EXPECT_FALSE(route({.method = "PUT", .target = "/v1/config?if_serving=false"}).put.if_serving);
  EXPECT_TRUE(route({.method = "PUT", .target = "/v1/config?if_serving=true"}).put.if_serving);
  for (const char* bad : {"1", "yes", "True", "true%00"})
    EXPECT_EQ(status_of({.method = "PUT", .target = std::string("/v1/config?if_serving=") + bad}),
              400u)
        << bad;
  EXPECT_EQ(status_of({.method = "GET", .target = "/v1/config?if_serving=true"}), 400u);
}

TEST_F(RouteTest, refuses_types_that_cannot_be_json) {
  for (const char* good : {"", "application/json", "Application/JSON; charset=utf-8",
                           "application/x-www-form-urlencoded", "application/merge-patch+json"})
    EXPECT_EQ(status_of({.method = "PUT", .target = "/v1/config", .content_type = good}), 0u);
  for (const char* bad : {"application/xml", "multipart/form-data; boundary=x", "image/png"})
    EXPECT_EQ(status_of({.method = "PUT", .target = "/v1/config", .content_type = bad}), 415u);
}

TEST_F(RouteTest, lets_no_web_page_change_anything) {
  EXPECT_EQ(status_of({.method = "POST", .target = "/v1/health-marks", .from_browser_page = true}),
            403u);
  EXPECT_EQ(status_of({.method = "GET", .target = "/v1/status", .from_browser_page = true}), 0u);
}

}  // namespace
}  // namespace limpet::api
