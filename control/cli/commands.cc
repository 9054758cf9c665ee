// Answers are read leniently: a field that is missing or of another type prints as "-", so that
// this client can talk to engines of other versions.
#include "control/cli/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "control/cli/table.h"

namespace limpet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kPageRowsMax = 1000;
constexpr std::chrono::seconds kFollowInterval{1};

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_error(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

const Json& member(const Json& object, const char* name) {
  static const Json none;
  if (!object.is_object()) return none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

std::string text(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string text(const Json& object, const char* name) {
  return text(member(object, name));
}

std::string path_and_message(const Json& error) {
  const std::string path = member(error, "path").is_string() ? text(error, "path") : "";
  return (path.empty() ? "" : printable(path) + ": ") + printable(text(error, "message"));
}

void print_errors(const HttpAnswer& answer) {
  const Json body = Json::parse(answer.body, nullptr, false);
  const Json& errors = member(body, "errors");
  if (!errors.is_array() || errors.empty())
    return print_error(fmt::format("error: HTTP status {}\n", answer.status));
  for (const Json& error : errors) print_error(fmt::format("error: {}\n", path_and_message(error)));
}

// An answer that the command can go on with, or the exit status.
struct Asked {
  int exit_status = kDone;
  std::string raw;
  Json body;
  unsigned refused_with = 0;      // the HTTP status of a refusal
  bool refused_as_whole = false;  // the first error has no path

  bool ok() const { return exit_status == kDone; }
};

Asked ask(const Context& context, const HttpRequest& request) {
  auto answer = context.client.ask(request);
  if (!answer) {
    print_error(fmt::format("limpetctl: {}\n", printable(answer.errors().front().message)));
    return {.exit_status = kUnreachable, .raw = "", .body = {}};
  }
  if (answer.value().status >= 400) {
    if (context.json) print(answer.value().body + "\n");
    print_errors(answer.value());
    const Json refusal = Json::parse(answer.value().body, nullptr, false);
    const Json& errors = member(refusal, "errors");
    return {.exit_status = kRefused,
            .raw = "",
            .body = {},
            .refused_with = answer.value().status,
            .refused_as_whole =
                errors.is_array() && !errors.empty() && member(errors.front(), "path") == ""};
  }
  Json body = Json::parse(answer.value().body, nullptr, false);
  if (body.is_discarded() || answer.value().status != 200) {
    print_error("limpetctl: the answer is not that of an engine\n");
    return {.exit_status = kUnreachable, .raw = "", .body = {}};
  }
  return {.exit_status = kDone, .raw = std::move(answer.value().body), .body = std::move(body)};
}

std::string with_query(std::string target, const Filters& filters) {
  char separator = '?';
  for (const auto& [name, value] : filters) {
    target += separator + name + "=" + percent_encode(value);
    separator = '&';
  }
  return target;
}

// "10.2.0.3:80" → address and port; "[fd00::3]:80" → without the brackets; "10.2.0.3:*" → "*".
std::pair<std::string, std::string> split_server(const std::string& server) {
  const auto colon = server.rfind(':');
  if (colon == std::string::npos) return {server, "-"};
  std::string address = server.substr(0, colon);
  if (address.size() >= 2 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  return {address, server.substr(colon + 1)};
}

std::string duration(const Json& seconds) {
  if (!seconds.is_number_unsigned()) return "-";
  const uint64_t s = seconds.get<uint64_t>();
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m {}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h {}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d {}h", s / 86400, s / 3600 % 24);
}

std::string drops_text(const Json& drops) {
  std::string result;
  if (!drops.is_object()) return "-";
  for (const auto& [reason, count] : drops.items())
    if (count != 0) result += (result.empty() ? "" : ", ") + reason + " " + text(count);
  return result.empty() ? "-" : result;
}

std::string yes_no(const Json& value) {
  return value.is_boolean() ? (value.get<bool>() ? "yes" : "no") : "-";
}

void add_ports(std::string& out, const Json& status) {
  Table table({"PORT", "MAC", "LINK", "RX_PACKETS", "TX_PACKETS", "DROPS"});
  for (const Json& port : member(status, "ports"))
    table.add({text(port, "name"), text(port, "mac"), text(port, "link"), text(port, "rx_packets"),
               text(port, "tx_packets"), drops_text(member(port, "drops"))});
  out += "\n" + table.take();
}

std::string percent(const Json& object, const char* name) {
  const Json& value = member(object, name);
  return value.is_number() ? fmt::format("{:.1f}", value.get<double>()) : "-";
}

void add_workers(std::string& out, const Json& status) {
  Table table({"CORE", "BUSY(%)", "FLOWS", "ENTRIES"});
  for (const Json& worker : member(status, "workers"))
    table.add({text(worker, "core"), percent(worker, "busy_percent"), text(worker, "flows"),
               text(worker, "entries")});
  out += "\n" + table.take();
}

// " (tenant blue)" for objects of other tenants than the one that everybody has.
std::string tenant_note(const Json& object) {
  const Json& tenant = member(object, "tenant");
  if (!tenant.is_string() || tenant == "admin") return "";
  return fmt::format(" (tenant {})", printable(text(tenant)));
}

std::string serving_text(const Json& service) {
  const Json& serving = member(service, "serving");
  if (!serving.is_boolean()) return "-";
  if (serving.get<bool>()) return "serving";
  return "not serving: " + printable(text(service, "reason"));
}

void add_virtual_services(std::string& out, const Json& status) {
  for (const Json& service : member(status, "virtual_services")) {
    out += fmt::format("\n{}{}  {}  {}  connections {}  pool {}\n",
                       printable(text(service, "name")), tenant_note(service),
                       printable(text(service, "oper_status")), serving_text(service),
                       text(service, "connections"), printable(text(service, "pool")));
    Table table({"SERVER", "STATE", "SOURCE", "ENABLED", "CONNECTIONS", "ENTRIES", "REASON"});
    for (const Json& server : member(service, "servers"))
      table.add({text(server, "server"), text(server, "oper_status"), text(server, "source"),
                 yes_no(member(server, "enabled")), text(server, "connections"),
                 text(server, "entries"), text(server, "reason")});
    out += table.take(2);
  }
}

void add_groups(std::string& out, const Json& status) {
  const Json& groups = member(status, "groups");
  if (groups.empty()) return;
  Table table({"GROUP", "OWNER", "STATE"});
  for (const Json& group : groups)
    table.add({text(group, "name"), text(group, "owner"), text(group, "state")});
  out += "\n" + table.take();
}

std::string peers_text(const Json& status) {
  Table table({"PEER", "STATE", "SYNCED", "LAG_ENTRIES", "LAG(ms)", "RX_BYTES", "TX_BYTES",
               "RESYNCS", "REJECTED"});
  for (const Json& peer : member(status, "peers")) {
    const Json& resyncs = member(peer, "resyncs");
    table.add({text(peer, "name"), text(peer, "state"), yes_no(member(peer, "synced")),
               text(peer, "lag_entries"), text(peer, "lag_ms"), text(peer, "bytes_received"),
               text(peer, "bytes_sent"),
               fmt::format("{} full, {} resumed", text(resyncs, "full"), text(resyncs, "resumed")),
               text(peer, "rejected")});
  }
  std::string out = table.take();
  // Who they were is not known.
  if (const Json& strangers = member(status, "strangers_rejected"); !strangers.empty())
    out += fmt::format("connections of strangers rejected: {}\n", drops_text(strangers));
  return out;
}

}  // namespace

int show_status(const Context& context) {
  const Asked asked = ask(context, {"GET", "/v1/status", ""});
  if (!asked.ok()) return asked.exit_status;
  if (context.json) {
    print(asked.raw + "\n");
    return kDone;
  }
  const Json& status = asked.body;
  std::string out = fmt::format("{}  version {}  generation {}  up {}\n",
                                printable(text(status, "name")), printable(text(status, "version")),
                                text(status, "generation"), duration(member(status, "uptime_s")));
  add_ports(out, status);
  add_workers(out, status);
  add_virtual_services(out, status);
  add_groups(out, status);
  if (!member(status, "peers").empty()) out += "\n" + peers_text(status);
  print(out);
  return kDone;
}

int show_peers(const Context& context) {
  const Asked asked = ask(context, {"GET", "/v1/status", ""});
  if (!asked.ok()) return asked.exit_status;
  print(context.json ? asked.raw + "\n" : peers_text(asked.body));
  return kDone;
}

int list_entries(const Context& context, const Filters& filters, std::optional<uint64_t> limit) {
  Table table({"KEY", "DADDR", "DPORT", "LIFE_TIME(s)", "NUM_SESSIONS"});
  Json whole;
  std::string cursor;
  for (uint64_t rows = 0;;) {
    Filters query = filters;
    query.emplace_back(
        "limit", std::to_string(limit ? std::min(kPageRowsMax, *limit - rows) : kPageRowsMax));
    if (!cursor.empty()) query.emplace_back("cursor", cursor);
    Asked asked = ask(context, {"GET", with_query("/v1/persistence-tables", query), ""});
    if (!asked.ok()) return asked.exit_status;
    const Json& results = member(asked.body, "results");
    rows += results.size();
    for (const Json& row : results) {
      const auto [address, port] = split_server(text(row, "server"));
      table.add(
          {text(row, "key"), address, port, text(row, "life_time_s"), text(row, "connections")});
    }
    const Json& next = member(asked.body, "next");
    const bool last = !next.is_string() || next == cursor || (limit && rows >= *limit);
    const std::string next_cursor = last ? "" : next.get<std::string>();
    if (!context.json) print(table.take());
    if (context.json && last && cursor.empty()) print(asked.raw + "\n");
    if (context.json && !(last && cursor.empty())) {
      if (cursor.empty()) {
        whole = std::move(asked.body);
      } else {
        for (const Json& row : results) whole["results"].push_back(row);
        whole["next"] = next;
      }
      if (last) print(whole.dump() + "\n");
    }
    if (last) return kDone;
    cursor = next_cursor;
  }
}

int clear_entries(const Context& context, const Filters& filters) {
  const Asked asked = ask(context, {"DELETE", with_query("/v1/persistence-tables", filters), ""});
  if (!asked.ok()) return asked.exit_status;
  print(context.json ? asked.raw + "\n" : fmt::format("removed {}\n", text(asked.body, "removed")));
  return kDone;
}

int apply_document(const Context& context, const ApplyRequest& request) {
  const std::string target =
      request.serving_none_is_meant ? "/v1/config" : "/v1/config?if_serving=true";
  const Asked asked = ask(context, {"PUT", target, request.document});
  // Refused as a whole, for what it does rather than for a field: the document would serve nobody.
  if (asked.refused_with == 409 && asked.refused_as_whole)
    print_error("--yes applies it all the same\n");
  if (!asked.ok()) return asked.exit_status;
  if (context.json) {
    print(asked.raw + "\n");
    return kDone;
  }
  std::string out;
  for (const Json& warning : member(asked.body, "warnings"))
    out += fmt::format("warning: {}\n", path_and_message(warning));
  out += fmt::format("applied generation {}\n", text(asked.body, "generation"));
  out += fmt::format("{} of {} virtual services are served\n", text(asked.body, "served"),
                     text(asked.body, "virtual_services"));
  print(out);
  return kDone;
}

int mark_server(const Context& context, const MarkRequest& request) {
  Json mark = {{"pool", request.pool}, {"server", request.server}};
  mark["oper_status"] = request.oper_status ? Json(*request.oper_status) : Json(nullptr);
  if (!request.reason.empty()) mark["reason"] = request.reason;
  if (request.tenant) mark["tenant"] = *request.tenant;
  const std::string body = Json::array({mark}).dump(-1, ' ', false, Json::error_handler_t::replace);
  const Asked asked = ask(context, {"POST", "/v1/health-marks", body});
  if (!asked.ok()) return asked.exit_status;
  print(context.json ? asked.raw + "\n"
                     : fmt::format("{} {} {}\n", printable(request.pool), printable(request.server),
                                   request.oper_status.value_or("mark taken back")));
  return kDone;
}

int explain(const Context& context, const ExplainRequest& request) {
  Filters query = {{"virtual_service", request.virtual_service}, {"client", request.client}};
  if (request.tenant) query.emplace_back("tenant", *request.tenant);
  const Asked asked = ask(context, {"GET", with_query("/v1/explain", query), ""});
  if (!asked.ok()) return asked.exit_status;
  if (context.json) {
    print(asked.raw + "\n");
    return kDone;
  }
  const Json& answer = asked.body;
  const Json& server = member(answer, "server");
  const bool chosen_later = server.is_null() && member(answer, "decision") == "forward";
  std::string out =
      fmt::format("{} to {}: {}{} ({})\n", printable(text(answer, "client")),
                  printable(text(answer, "virtual_service")), printable(text(answer, "decision")),
                  server.is_null() ? (chosen_later ? ", to a server chosen at arrival" : "")
                                   : " to " + printable(text(server)),
                  printable(text(answer, "reason")));
  if (const Json& entry = member(answer, "entry"); entry.is_object()) {
    const Json& life = member(entry, "life_time_s");
    out += fmt::format("entry: {} -> {}, connections {}, {}\n", printable(text(entry, "key")),
                       printable(text(entry, "server")), text(entry, "connections"),
                       life.is_null() ? "timer stopped" : "expires in " + duration(life));
  }
  out += fmt::format("home core: {}\n", text(answer, "home_core"));
  if (const Json& candidates = member(answer, "candidates"); !candidates.empty()) {
    Table table({"CANDIDATE", "STATE", "WHY_NOT"});
    for (const Json& candidate : candidates)
      table.add({text(candidate, "server"), text(candidate, "state"), text(candidate, "why_not")});
    out += table.take();
  }
  std::size_t number = 0;
  for (const Json& step : member(answer, "steps"))
    out += fmt::format("{}. {}\n", ++number, printable(text(step)));
  print(out);
  return kDone;
}

int show_events(const Context& context, uint64_t after, bool follow) {
  for (;;) {
    const Filters query = {{"after", std::to_string(after)},
                           {"limit", std::to_string(kPageRowsMax)}};
    const Asked asked = ask(context, {"GET", with_query("/v1/events", query), ""});
    if (!asked.ok()) return asked.exit_status;
    const Json& events = member(asked.body, "events");
    const Json& next = member(asked.body, "next");
    const uint64_t next_after = next.is_number_unsigned() ? next.get<uint64_t>() : after;
    if (context.json && (!events.empty() || !follow)) print(asked.raw + "\n");
    std::string out;
    for (const Json& event : events)
      out += fmt::format("{}  {}  {}  {}  {}\n", text(event, "seq"), printable(text(event, "time")),
                         printable(text(event, "name")), printable(text(event, "object")),
                         printable(text(event, "message")));
    if (!context.json) print(out);
    // A number below ours: the engine started anew since, and counts from one again.
    const bool more = events.size() >= kPageRowsMax;
    after = follow && next_after < after ? 0 : next_after;
    if (more) continue;
    if (!follow) return kDone;
    std::this_thread::sleep_for(kFollowInterval);
  }
}

}  // namespace limpet::cli
