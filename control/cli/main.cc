// limpetctl: the command line client of an engine. This file reads the arguments; commands.h does
// the work.
#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "control/cli/commands.h"

namespace limpet::cli {
namespace {

namespace po = boost::program_options;

constexpr const char* kUsageText = R"(usage: limpetctl [options] COMMAND

  status                                    the engine, its ports, workers, virtual services
  get persistence-tables [filters]          persistence entries
  clear persistence-tables [filters]        forget entries; without filters: all
  apply FILE                                replace the configuration ("-": standard input); what
                                            would leave nothing served needs --yes
  mark POOL SERVER up|down|clear            set or take back a server's health mark; SERVER is as
                                            status prints it, an address or a uuid
  explain VIRTUAL_SERVICE CLIENT            what would happen to a new connection
  events                                    what happened
  peers                                     the mirroring peers

)";
constexpr const char* kExitText = R"(
URL is http://HOST[:PORT], https://HOST[:PORT] or unix:PATH; the port is 9080 unless given. Without
--engine and --controller: $LIMPET_ENGINE, else http://127.0.0.1:9080.

Exit status: 0 done, 1 refused by the engine, 2 usage, 3 unreachable.
)";

struct UsageError {
  std::string message;
};

po::options_description make_options() {
  po::options_description options("Options");
  const auto text = [] { return po::value<std::string>(); };
  auto add = options.add_options();
  add("engine", text()->value_name("URL"), "the engine's API");
  add("controller", text()->value_name("URL"), "a controller's API instead");
  add("ca", text()->value_name("FILE"), "https: authorities to trust (PEM)");
  add("cert", text()->value_name("FILE"), "https: client certificate (PEM)");
  add("key", text()->value_name("FILE"), "https: its key (PEM)");
  add("json", "print the raw answer");
  add("virtual-service", text()->value_name("NAME"), "get, clear: filter");
  add("pool", text()->value_name("NAME"), "get, clear: filter");
  add("client", text()->value_name("ADDRESS|PREFIX"), "get, clear: filter");
  add("server", text()->value_name("IP[:PORT]"), "get, clear: filter");
  add("tenant", text()->value_name("NAME"),
      "get, clear, mark, explain: whose pool or virtual service");
  add("limit", text()->value_name("N"), "get: at most so many entries");
  add("after", text()->value_name("N"), "events: only those after number N");
  add("follow", "events: go on as they happen");
  add("reason", text()->value_name("TEXT"), "mark: why");
  add("yes", "apply: also a document that leaves nothing served");
  add("help", "this text");
  add("version", "the version");
  return options;
}

class Arguments {
 public:
  Arguments(int argc, char** argv, const po::options_description& visible) {
    po::options_description all;
    all.add(visible);
    all.add_options()("words", po::value<std::vector<std::string>>());
    po::positional_options_description positional;
    positional.add("words", -1);
    using Style = po::command_line_style::style_t;
    po::store(po::command_line_parser(argc, argv)
                  .options(all)
                  .positional(positional)
                  .style(Style::unix_style & ~Style::allow_guessing)
                  .run(),
              values_);
    if (values_.count("words") > 0) words = values_["words"].as<std::vector<std::string>>();
  }

  bool has(const std::string& name) const { return values_.count(name) > 0; }
  std::optional<std::string> text(const std::string& name) const {
    return has(name) ? std::optional(values_[name].as<std::string>()) : std::nullopt;
  }
  // A script's empty variable must not widen what a command is about.
  std::optional<std::string> text_or_nothing(const std::string& name) const {
    auto value = text(name);
    if (value && value->empty()) throw UsageError{fmt::format("--{} must not be empty", name)};
    return value;
  }
  std::optional<uint64_t> number(const std::string& name, uint64_t min) const {
    const auto value = text(name);
    if (!value) return std::nullopt;
    uint64_t result = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), result);
    if (error != std::errc() || end != value->data() + value->size() || result < min)
      throw UsageError{fmt::format("--{} takes a number, not \"{}\"", name, *value)};
    return result;
  }
  // Refuses options that another command has.
  void allow(std::initializer_list<const char*> allowed) const {
    for (const char* name : {"virtual-service", "pool", "tenant", "client", "server", "limit",
                             "after", "follow", "reason", "yes"})
      if (has(name) && std::none_of(allowed.begin(), allowed.end(),
                                    [&](const char* a) { return std::string(a) == name; }))
        throw UsageError{fmt::format("\"{}\" has no option --{}", words.front(), name)};
  }
  Filters filters() const {
    Filters filters;
    for (const auto& [option, parameter] :
         {std::pair("virtual-service", "virtual_service"), std::pair("pool", "pool"),
          std::pair("tenant", "tenant"), std::pair("client", "client"),
          std::pair("server", "server")}) {
      const auto value = text_or_nothing(option);
      if (value) filters.emplace_back(parameter, *value);
    }
    return filters;
  }

  std::vector<std::string> words;

 private:
  po::variables_map values_;
};

Location location_of(const Arguments& arguments) {
  if (arguments.has("engine") && arguments.has("controller"))
    throw UsageError{"--engine and --controller exclude each other"};
  const char* environment = std::getenv("LIMPET_ENGINE");
  std::string url =
      environment != nullptr && *environment != '\0' ? environment : "http://127.0.0.1:9080";
  if (const auto engine = arguments.text("engine")) url = *engine;
  if (const auto controller = arguments.text("controller")) url = *controller;
  const auto location = parse_location(url);
  if (!location)
    throw UsageError{
        fmt::format("\"{}\" is not http://HOST:PORT, https://HOST:PORT or unix:PATH", url)};
  return *location;
}

TlsFiles tls_files_of(const Arguments& arguments) {
  TlsFiles files{.ca = arguments.text("ca").value_or(""),
                 .certificate = arguments.text("cert").value_or(""),
                 .key = arguments.text("key").value_or("")};
  if (files.certificate.empty() != files.key.empty())
    throw UsageError{"--cert and --key need each other"};
  return files;
}

std::string read_document(const std::string& name) {
  std::ifstream file;
  if (name != "-") file.open(name, std::ios::binary);
  std::istream& input = name == "-" ? std::cin : file;
  std::ostringstream text;
  // An empty file sets failbit on the output; only the input's own state tells of errors.
  if (input) text << input.rdbuf();
  if (!input || input.bad()) throw UsageError{fmt::format("cannot read \"{}\"", name)};
  if (text.str().empty()) throw UsageError{fmt::format("\"{}\" is empty", name)};
  return text.str();
}

MarkRequest mark_of(const Arguments& arguments) {
  MarkRequest request{.pool = arguments.words[1],
                      .server = arguments.words[2],
                      .oper_status = std::nullopt,
                      .reason = arguments.text("reason").value_or(""),
                      .tenant = arguments.text_or_nothing("tenant")};
  const std::string& state = arguments.words[3];
  if (state == "up") {
    request.oper_status = "OPER_UP";
  } else if (state == "down") {
    request.oper_status = "OPER_DOWN";
  } else if (state != "clear") {
    throw UsageError{fmt::format("\"{}\" is not up, down or clear", state)};
  }
  return request;
}

int run_command(const Context& context, const Arguments& arguments) {
  const auto& words = arguments.words;
  const auto is = [&](const char* command, std::size_t count) {
    return words[0] == command && words.size() == count;
  };
  if (is("status", 1)) {
    arguments.allow({});
    return show_status(context);
  }
  if (is("peers", 1)) {
    arguments.allow({});
    return show_peers(context);
  }
  if (is("get", 2) && words[1] == "persistence-tables") {
    arguments.allow({"virtual-service", "pool", "tenant", "client", "server", "limit"});
    return list_entries(context, arguments.filters(), arguments.number("limit", 1));
  }
  if (is("clear", 2) && words[1] == "persistence-tables") {
    arguments.allow({"virtual-service", "pool", "tenant", "client", "server"});
    return clear_entries(context, arguments.filters());
  }
  if (is("apply", 2)) {
    arguments.allow({"yes"});
    return apply_document(context, {.document = read_document(words[1]),
                                    .serving_none_is_meant = arguments.has("yes")});
  }
  if (is("mark", 4)) {
    arguments.allow({"reason", "tenant"});
    return mark_server(context, mark_of(arguments));
  }
  if (is("explain", 3)) {
    arguments.allow({"tenant"});
    return explain(context, {.virtual_service = words[1],
                             .client = words[2],
                             .tenant = arguments.text_or_nothing("tenant")});
  }
  if (is("events", 1)) {
    arguments.allow({"after", "follow"});
    return show_events(context, arguments.number("after", 0).value_or(0), arguments.has("follow"));
  }
  throw UsageError{fmt::format("no such command, or wrong arguments: \"{}\"", words[0])};
}

int run(int argc, char** argv) {
  const po::options_description options = make_options();
  const Arguments arguments(argc, argv, options);
  if (arguments.has("help")) {
    std::cout << kUsageText << options << kExitText;
    return kDone;
  }
  if (arguments.has("version")) {
    std::cout << "limpetctl " LIMPET_VERSION "\n";
    return kDone;
  }
  if (arguments.words.empty()) throw UsageError{"a command is missing"};
  Client client(location_of(arguments), tls_files_of(arguments));
  return run_command({.client = client, .json = arguments.has("json")}, arguments);
}

int usage(const std::string& message) {
  std::cerr << "limpetctl: " << message << "\nlimpetctl --help tells more\n";
  return kUsage;
}

}  // namespace
}  // namespace limpet::cli

int main(int argc, char** argv) {
  try {
    return limpet::cli::run(argc, argv);
  } catch (const limpet::cli::UsageError& error) {
    return limpet::cli::usage(error.message);
  } catch (const boost::program_options::error& error) {
    return limpet::cli::usage(error.what());
  } catch (const std::exception& error) {
    std::cerr << "limpetctl: " << error.what() << "\n";
    return limpet::cli::kUnreachable;
  }
}
