// limpet-se: the service engine's command line.
#include <malloc.h>

#include <boost/program_options.hpp>
#include <climits>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <string_view>

#include "control/engine/check.h"
#include "control/engine/engine.h"
#include "control/engine/replay.h"

namespace limpet::engine {
namespace {

enum ExitStatus : int { kDone = 0, kBadConfiguration = 1, kUsage = 2, kDevice = 3 };

struct Options {
  std::filesystem::path config;
  bool check = false;
  bool replay = false;
  std::optional<std::filesystem::path> events;
};

constexpr const char* kUsageText =
    "usage: limpet-se --config FILE             run\n"
    "                 --config FILE --check     check FILE and the document it names\n"
    "                 --config FILE --replay [EVENTS]\n"
    "                                           run to the end of the captures, then stop\n"
    "       limpet-se --version | --help\n";

// An exit status, or nothing when `options` say what to do.
std::optional<int> parse_options(int argc, char** argv, Options* options) {
  namespace po = boost::program_options;
  po::options_description known("limpet-se");
  po::options_description shown;
  auto add = known.add_options();
  add("config", po::value<std::string>());
  add("check", "");
  add("replay", po::value<std::string>()->implicit_value(""));
  add("version", "");
  add("help,h", "");
  po::variables_map values;
  try {
    po::store(po::command_line_parser(argc, argv).options(known).positional({}).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    std::cerr << "limpet-se: " << error.what() << "\n" << kUsageText;
    return kUsage;
  }
  if (values.count("help") > 0) {
    std::cout << kUsageText;
    return kDone;
  }
  if (values.count("version") > 0) {
    std::cout << "limpet-se " << LIMPET_VERSION << "\n";
    return kDone;
  }
  options->check = values.count("check") > 0;
  options->replay = values.count("replay") > 0;
  if (values.count("config") == 0 || (options->check && options->replay)) {
    std::cerr << kUsageText;
    return kUsage;
  }
  options->config = values["config"].as<std::string>();
  if (options->replay && !values["replay"].as<std::string>().empty())
    options->events = values["replay"].as<std::string>();
  return std::nullopt;
}

constexpr std::string_view kWarning = "warning: ";

void print(const std::string& file, const base::Errors& errors, std::string_view kind = "") {
  for (const base::Error& e : errors)
    std::cerr << file << ":" << e.path << ": " << kind << e.message << "\n";
}

void print(const std::string& file, const Findings& findings) {
  print(file, findings.wrong);
  print(file, findings.missing);
  print(file, findings.warnings, kWarning);
  if (!findings.bootstrap.document) return;
  const std::string document = findings.bootstrap.document->string();
  print(document, findings.document_wrong);
  print(document, findings.document_warnings, kWarning);
}

void conclude(const std::string& file, const Findings& findings) {
  if (findings.is_good()) std::cout << file << ": good\n";
  if (const auto& services = findings.services) {
    std::cout << services->served << " of " << services->all << " virtual services are served\n";
  }
}

int run_replay(const Options& options, Findings findings) {
  bool device_failure = false;
  const auto status =
      replay(findings.bootstrap, std::move(findings.document), options.events, &device_failure);
  if (status) return kDone;
  print(options.events && !device_failure ? options.events->string() : options.config.string(),
        status.errors());
  return device_failure ? kDevice : kBadConfiguration;
}

int run_engine(const std::string& file, Findings findings) {
  std::signal(SIGHUP, SIG_IGN);   // until the engine is there to listen to it
  std::signal(SIGPIPE, SIG_IGN);  // whoever read our standard error may have gone
  base::Result<std::unique_ptr<Engine>> engine =
      base::Error{"/memory/size_mb", "there is less memory than the limits need"};
  try {
    engine = Engine::start(findings.bootstrap, std::move(findings.document));
  } catch (const std::bad_alloc&) {
    // What DPDK reserved is in pieces too small, or there is no such memory.
  }
  if (!engine) {
    print(file, engine.errors());
    return kDevice;
  }
  print(file, engine.value()->warnings(), kWarning);
  engine.value()->run();
  return kDone;
}

// What the helper gives back to the system after a large document, in thousands of pieces, holds up
// all other cores: each time they forget which page is where. So it is kept for the next document.
void keep_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

int run(const Options& options) {
  const std::string file = options.config.string();
  Findings findings = examine(options.config, options.replay);
  print(file, findings);
  if (options.check) conclude(file, findings);
  if (!findings.is_right()) return kBadConfiguration;
  if (!findings.is_good()) return kDevice;
  if (options.check) return kDone;
  return options.replay ? run_replay(options, std::move(findings))
                        : run_engine(file, std::move(findings));
}

}  // namespace
}  // namespace limpet::engine

int main(int argc, char** argv) {
  limpet::engine::keep_memory();
  limpet::engine::Options options;
  if (const auto status = limpet::engine::parse_options(argc, argv, &options)) return *status;
  return limpet::engine::run(options);
}
