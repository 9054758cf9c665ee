#include "dataplane/port/eal_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

namespace limpet::port {
namespace {

enum class Value : uint8_t { kNone, kRequired, kOptional };

using Judge = bool (*)(std::string_view value);

struct Option {
  std::string_view name;  // without dashes; one letter: a short option
  Value value = Value::kNone;
  std::string_view why_not;  // the engine's own business; empty: allowed
  Judge is_right = nullptr;  // null: DPDK may judge
  std::string_view values;   // what is_right() wants, as people read it
};

bool is_number(std::string_view text, uint64_t min, uint64_t max, int base = 10) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc() && end == text.data() + text.size() && number >= min && number <= max;
}

template <std::size_t N>
bool is_one_of(std::string_view text, const std::array<std::string_view, N>& all) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

bool is_iova_mode(std::string_view v) {
  return v == "pa" || v == "va";
}

bool is_facility(std::string_view v) {
  constexpr std::array<std::string_view, 19> kAll = {
      "auth",   "cron",   "daemon", "ftp",    "kern",   "lpr",    "mail",
      "news",   "syslog", "user",   "uucp",   "local0", "local1", "local2",
      "local3", "local4", "local5", "local6", "local7"};
  return is_one_of(v, kAll);
}

bool is_interrupt_mode(std::string_view v) {
  return v == "legacy" || v == "msi" || v == "msix";
}

bool is_hex_address(std::string_view v) {
  if (v.starts_with("0x") || v.starts_with("0X")) v.remove_prefix(2);
  return is_number(v, 0, UINT64_MAX, 16);
}

bool is_simd_bitwidth(std::string_view v) {
  constexpr std::array<std::string_view, 11> kAll = {
      "0", "64", "128", "256", "512", "1024", "2048", "4096", "8192", "16384", "32768"};
  return is_one_of(v, kAll);
}

bool is_rank(std::string_view v) {
  return is_number(v, 1, 16);
}

bool is_positive(std::string_view v) {
  return is_number(v, 1, UINT32_MAX);
}

bool is_trace_mode(std::string_view v) {
  return !v.empty() && (std::string_view("overwrite").starts_with(v) ||
                        std::string_view("discard").starts_with(v));
}

// "LEVEL", "PATTERN:LEVEL" or "REGEX,LEVEL"; a level is a number or the beginning of its name.
bool is_log_level(std::string_view v) {
  constexpr std::array<std::string_view, 8> kNames = {"emergency", "alert",  "critical", "error",
                                                      "warning",   "notice", "info",     "debug"};
  if (const auto at = v.find_last_of(":,"); at != std::string_view::npos) v.remove_prefix(at + 1);
  if (is_number(v, 0, kNames.size())) return true;
  return !v.empty() && std::any_of(kNames.begin(), kNames.end(),
                                   [v](std::string_view name) { return name.starts_with(v); });
}

bool is_something(std::string_view v) {
  return !v.empty();
}

constexpr std::string_view kCores = "`control_core` and `worker_cores` say which cores there are";
constexpr std::string_view kMemory = "`memory` says how much there is, and of which kind";
constexpr std::string_view kDevices = "`ports` says which devices are used";
constexpr std::string_view kFiles = "the engine leaves no files behind";
constexpr std::string_view kProcess = "the engine is the only process of its name";
constexpr std::string_view kHelp = "it prints a text and ends the process";

// DPDK 22.11: eal_short_options, eal_long_options and Linux's own.
constexpr std::array kOptions = {
    Option{"a", Value::kRequired, kDevices},
    Option{"allow", Value::kRequired, kDevices},
    Option{"b", Value::kRequired, kDevices},
    Option{"base-virtaddr", Value::kRequired, {}, is_hex_address, "a hexadecimal address"},
    Option{"block", Value::kRequired, kDevices},
    Option{"c", Value::kRequired, kCores},
    Option{"create-uio-dev"},
    Option{"d", Value::kRequired, {}, is_something, "a file or folder of drivers"},
    Option{"file-prefix", Value::kRequired, "it follows from `name`"},
    Option{"force-max-simd-bitwidth",
           Value::kRequired,
           {},
           is_simd_bitwidth,
           "0 or a power of two from 64 to 32768"},
    Option{"h", Value::kNone, kHelp},
    Option{"help", Value::kNone, kHelp},
    Option{"huge-dir", Value::kRequired, {}, is_something, "a folder"},
    Option{"huge-unlink", Value::kOptional, kFiles},
    Option{"huge-worker-stack", Value::kOptional, {}, is_positive, "a number of kilobytes"},
    Option{"in-memory", Value::kNone, kMemory},
    Option{"iova-mode", Value::kRequired, {}, is_iova_mode, "pa or va"},
    Option{"l", Value::kRequired, kCores},
    Option{"lcores", Value::kRequired, kCores},
    Option{"legacy-mem", Value::kNone, kMemory},
    Option{"log-level",
           Value::kRequired,
           {},
           is_log_level,
           "LEVEL, PATTERN:LEVEL or REGEX,LEVEL, with a level from 0 to 8 or its name"},
    Option{"m", Value::kRequired, kMemory},
    Option{"main-lcore", Value::kRequired, kCores},
    Option{"match-allocations"},
    Option{"mbuf-pool-ops-name", Value::kRequired, {}, is_something, "a name"},
    Option{"n", Value::kRequired, {}, is_positive, "a number of channels"},
    Option{"no-hpet"},
    Option{"no-huge", Value::kNone, kMemory},
    Option{"no-pci", Value::kNone, kDevices},
    Option{"no-shconf", Value::kNone, kFiles},
    Option{"no-telemetry"},
    Option{"proc-type", Value::kRequired, kProcess},
    Option{"r", Value::kRequired, {}, is_rank, "a number of ranks from 1 to 16"},
    Option{"s", Value::kRequired, kCores},
    Option{"S", Value::kRequired, kCores},
    Option{"single-file-segments"},
    Option{"socket-limit", Value::kRequired, {}, is_something, "megabytes of each socket"},
    Option{"socket-mem", Value::kRequired, kMemory},
    Option{"syslog", Value::kRequired, {}, is_facility, "a facility of syslog"},
    Option{"telemetry"},
    Option{"trace", Value::kRequired, {}, is_something, "a pattern"},
    Option{"trace-bufsz", Value::kRequired, {}, is_something, "a size"},
    Option{"trace-dir", Value::kRequired, {}, is_something, "a folder"},
    Option{"trace-mode", Value::kRequired, {}, is_trace_mode, "overwrite or discard"},
    Option{"v"},
    Option{"vdev", Value::kRequired, {}, is_something, "a virtual device"},
    Option{"vfio-intr", Value::kRequired, {}, is_interrupt_mode, "legacy, msi or msix"},
    Option{"vfio-vf-token", Value::kRequired, {}, is_something, "a UUID"},
    Option{"vmware-tsc-map"},
};

bool is_short(const Option& option) {
  return option.name.size() == 1;
}

// As getopt_long finds it: the whole name, or a beginning that only one has.
const Option* find_long(std::string_view name, bool* ambiguous) {
  const Option* found = nullptr;
  for (const Option& option : kOptions) {
    if (is_short(option) || !option.name.starts_with(name)) continue;
    if (option.name == name) return &option;
    if (found != nullptr) *ambiguous = true;
    found = &option;
  }
  return found;
}

const Option* find_short(char letter) {
  for (const Option& option : kOptions) {
    if (is_short(option) && option.name.front() == letter) return &option;
  }
  return nullptr;
}

class Reader {
 public:
  Reader(const std::vector<std::string>& all, bool hugepages) : all_(all), hugepages_(hugepages) {}

  base::Errors read() {
    while (at_ < all_.size()) {
      const std::string_view text = all_[at_];
      const std::size_t index = at_++;
      if (text == "--") {
        error(index, "ends DPDK's options: what follows would be nobody's");
        break;
      }
      if (text.starts_with("--")) {
        read_long(index, text.substr(2));
      } else if (text.size() > 1 && text.front() == '-') {
        read_short(index, text.substr(1));
      } else {
        error(index, fmt::format("\"{}\" is no option, and no option before it wants it", text));
      }
    }
    return std::move(errors_);
  }

 private:
  void error(std::size_t index, std::string message) {
    errors_.push_back({fmt::format("/eal/{}", index), std::move(message)});
  }

  void read_long(std::size_t index, std::string_view text) {
    const auto equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    std::optional<std::string_view> value;
    if (equals != std::string_view::npos) value = text.substr(equals + 1);
    bool ambiguous = false;
    const Option* option = name.empty() ? nullptr : find_long(name, &ambiguous);
    if (option == nullptr) return error(index, fmt::format("DPDK has no option --{}", name));
    if (ambiguous) return error(index, fmt::format("--{} may be several of DPDK's options", name));
    judge(index, *option, value);
  }

  // One or more letters; the first that takes a value takes the rest.
  void read_short(std::size_t index, std::string_view letters) {
    while (!letters.empty()) {
      const Option* option = find_short(letters.front());
      if (option == nullptr)
        return error(index, fmt::format("DPDK has no option -{}", letters.front()));
      letters.remove_prefix(1);
      if (option->value == Value::kNone) {
        judge(index, *option, std::nullopt);
        continue;
      }
      return judge(index, *option, letters.empty() ? std::nullopt : std::make_optional(letters));
    }
  }

  void judge(std::size_t index, const Option& option, std::optional<std::string_view> value) {
    const std::string shown = (is_short(option) ? "-" : "--") + std::string(option.name);
    if (option.value == Value::kNone && value)
      return error(index, fmt::format("{} takes no value", shown));
    if (option.value == Value::kRequired && !value) {
      if (at_ == all_.size()) return error(index, fmt::format("{} needs a value", shown));
      value = all_[at_++];
    }
    if (!option.why_not.empty())
      return error(index, fmt::format("{} may not be set here: {}", shown, option.why_not));
    if (option.name == "match-allocations" && !hugepages_)
      return error(index, fmt::format("{} needs `memory.hugepages`", shown));
    if (option.name == "log-level" && value == "help")
      return error(index, fmt::format("{}=help may not be set here: {}", shown, kHelp));
    if (value && option.is_right != nullptr && !option.is_right(*value)) {
      return error(index, fmt::format("\"{}\" is no value of {}, which is {}", *value, shown,
                                      option.values));
    }
  }

  const std::vector<std::string>& all_;
  const bool hugepages_;
  std::size_t at_ = 0;
  base::Errors errors_;
};

}  // namespace

base::Errors check_eal_options(const std::vector<std::string>& options, bool hugepages) {
  return Reader(options, hugepages).read();
}

}  // namespace limpet::port
