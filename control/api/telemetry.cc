// An answer of DPDK telemetry is bounded (256 members of a dictionary, names of letters, digits,
// "_" and "/", 16 KiB in all), so virtual services are counted here and named only in the HTTP API.
#include "control/api/telemetry.h"

#include <fmt/format.h>
#include <rte_telemetry.h>

#include <cctype>
#include <memory>
#include <mutex>
#include <string>

namespace limpet::api {
namespace {

class Board {
 public:
  void publish(std::shared_ptr<const TelemetryView> view) {
    const std::lock_guard lock(mutex_);
    view_.swap(view);
  }  // the old view is freed after the lock

  std::shared_ptr<const TelemetryView> view() const {
    const std::lock_guard lock(mutex_);
    return view_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const TelemetryView> view_ = std::make_shared<const TelemetryView>();
};

// DPDK's callbacks carry no argument, so what they answer has to be found from nowhere.
Board& board() {
  static Board instance;
  return instance;
}

constexpr std::size_t kMembersMax = 200;  // below RTE_TEL_MAX_DICT_ENTRIES, with room for totals

// `text` with every character DPDK refuses in a name as "_".
std::string name_of(const std::string& text) {
  std::string name = text.substr(0, RTE_TEL_MAX_STRING_LEN - 1);
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '/') c = '_';
  return name;
}

// A dictionary inside another; given to DPDK by add().
class Dictionary {
 public:
  Dictionary() : data_(rte_tel_data_alloc()) {
    if (data_ != nullptr) rte_tel_data_start_dict(data_);
  }
  ~Dictionary() { rte_tel_data_free(data_); }
  Dictionary(const Dictionary&) = delete;
  Dictionary& operator=(const Dictionary&) = delete;

  void number(const std::string& name, uint64_t value) {
    if (data_ == nullptr || members_ >= kMembersMax) return;
    ++members_;
    rte_tel_data_add_dict_u64(data_, name_of(name).c_str(), value);
  }
  void text(const std::string& name, const std::string& value) {
    if (data_ == nullptr || members_ >= kMembersMax) return;
    ++members_;
    rte_tel_data_add_dict_string(data_, name_of(name).c_str(),
                                 value.substr(0, RTE_TEL_MAX_STRING_LEN - 1).c_str());
  }
  void dictionary(const std::string& name, Dictionary& member) {
    if (data_ == nullptr || members_ >= kMembersMax) return;
    ++members_;
    member.add_to(data_, name);
  }
  // Makes this the member `name` of `parent`, which owns it from then on.
  void add_to(rte_tel_data* parent, const std::string& name) {
    if (data_ == nullptr) return;
    if (rte_tel_data_add_dict_container(parent, name_of(name).c_str(), data_, 0) == 0)
      data_ = nullptr;
  }

 private:
  rte_tel_data* data_;
  std::size_t members_ = 0;
};

void add_text(rte_tel_data* answer, const char* name, const std::string& value) {
  rte_tel_data_add_dict_string(answer, name, value.substr(0, RTE_TEL_MAX_STRING_LEN - 1).c_str());
}

void add_counts(rte_tel_data* answer, const char* name, const std::vector<ReasonCount>& counts) {
  Dictionary dictionary;
  for (const ReasonCount& count : counts) dictionary.number(count.reason, count.count);
  dictionary.add_to(answer, name);
}

int answer_status(const char*, const char*, rte_tel_data* answer) {
  const auto view = board().view();
  rte_tel_data_start_dict(answer);
  add_text(answer, "name", view->name);
  add_text(answer, "version", view->version);
  rte_tel_data_add_dict_u64(answer, "generation", view->generation);
  rte_tel_data_add_dict_u64(answer, "uptime_s", view->uptime_s);

  Dictionary ports;
  for (const TelemetryPort& port : view->ports) {
    Dictionary one;
    one.text("mac", port.mac);
    one.text("link", port.link_up ? "up" : "down");
    one.number("rx_packets", port.rx_packets);
    one.number("tx_packets", port.tx_packets);
    ports.dictionary(port.name, one);
  }
  ports.add_to(answer, "ports");

  Dictionary workers;
  for (const WorkerStatus& worker : view->workers) {
    Dictionary one;
    one.number("busy_percent", static_cast<uint64_t>(worker.busy_percent));
    one.number("flows", worker.flows);
    one.number("entries", worker.entries);
    workers.dictionary(std::to_string(worker.core), one);
  }
  workers.add_to(answer, "workers");

  rte_tel_data_add_dict_u64(answer, "virtual_services", view->virtual_services);
  rte_tel_data_add_dict_u64(answer, "virtual_services_up", view->virtual_services_up);
  rte_tel_data_add_dict_u64(answer, "connections", view->connections);
  return 0;
}

int answer_drops(const char*, const char*, rte_tel_data* answer) {
  const auto view = board().view();
  rte_tel_data_start_dict(answer);
  std::size_t members = 0;
  for (const ReasonCount& drop : view->drops)
    if (members++ < kMembersMax)
      rte_tel_data_add_dict_u64(answer, name_of(drop.reason).c_str(), drop.count);
  return 0;
}

int answer_persistence(const char*, const char*, rte_tel_data* answer) {
  const auto view = board().view();
  rte_tel_data_start_dict(answer);
  rte_tel_data_add_dict_u64(answer, "entries", view->entries);
  rte_tel_data_add_dict_u64(answer, "entries_max", view->entries_max);
  rte_tel_data_add_dict_u64(answer, "entry_bytes", view->entry_bytes);
  add_counts(answer, "lookups",
             {{"hit", view->lookups.hit},
              {"miss", view->lookups.miss},
              {"moved", view->lookups.moved},
              {"new", view->lookups.created},
              {"refused", view->lookups.refused}});
  add_counts(answer, "evictions", view->evictions);
  return 0;
}

}  // namespace

base::Status register_telemetry() {
  board();  // made before DPDK's threads can ask
  const auto add = [](const char* command, telemetry_cb callback, const char* help) {
    return rte_telemetry_register_cmd(command, callback, help);
  };
  base::Errors errors;
  const auto check = [&](const char* command, int result) {
    if (result != 0)
      errors.push_back({"", fmt::format("telemetry command {}: error {}", command, -result)});
  };
  check("/limpet/status", add("/limpet/status", answer_status, "The engine. No parameters."));
  check("/limpet/drops",
        add("/limpet/drops", answer_drops, "Dropped packets by reason. No parameters."));
  check("/limpet/persistence",
        add("/limpet/persistence", answer_persistence, "The persist tables. No parameters."));
  if (!errors.empty()) return errors;
  return base::Done{};
}

void publish_telemetry(TelemetryView view) {
  board().publish(std::make_shared<const TelemetryView>(std::move(view)));
}

}  // namespace limpet::api
