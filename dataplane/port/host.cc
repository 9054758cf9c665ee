#include "dataplane/port/host.h"

#include <fmt/format.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>
#include <thread>

namespace limpet::port {
namespace {

using std::filesystem::path;
using Why = std::optional<std::string>;

std::string system_text(int number) {
  return std::generic_category().message(number);
}

std::string first_line(const path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

uint64_t number_in(const path& file) {
  uint64_t number = 0;
  std::ifstream(file) >> number;
  return number;
}

// ---- drivers ----------------------------------------------------------------------------------

struct Driver {
  std::string_view name;       // of which the device's name is a continuation
  std::string_view arguments;  // between spaces; empty: any
};

// DPDK 22.11's virtual ethernet drivers; where one has two names, both.
constexpr std::array kDrivers = {
    Driver{"net_af_packet", " iface qpairs blocksz framesz framecnt qdisc_bypass "},
    Driver{"eth_af_packet", " iface qpairs blocksz framesz framecnt qdisc_bypass "},
    Driver{"net_af_xdp",
           " iface start_queue queue_count shared_umem xdp_prog busy_budget force_copy "},
    Driver{"net_memif",
           " id role bsize rsize socket socket-abstract owner-uid owner-gid mac zero-copy secret "},
    Driver{"net_null", " size copy no-rx "},
    Driver{"eth_null", " size copy no-rx "},
    Driver{"net_pcap", " rx_pcap tx_pcap rx_iface rx_iface_in tx_iface iface phy_mac infinite_rx "},
    Driver{"eth_pcap", " rx_pcap tx_pcap rx_iface rx_iface_in tx_iface iface phy_mac infinite_rx "},
    Driver{"net_tap", " iface remote mac persist "},
    Driver{"eth_tap", " iface remote mac persist "},
    Driver{"net_tun", {}},
    Driver{"net_ring", {}},
    Driver{"eth_ring", {}},
    Driver{"net_bonding", {}},
    Driver{"eth_bond", {}},
    Driver{"net_failsafe", {}},
    Driver{"net_softnic", {}},
    Driver{"net_vdev_netvsc", {}},
    Driver{"net_vhost", {}},
    Driver{"eth_vhost", {}},
    Driver{"net_virtio_user", {}},
    Driver{"virtio_user", {}},
    Driver{"net_mvneta", {}},
    Driver{"net_mvpp2", {}},
    Driver{"net_pfe", {}},
    Driver{"net_enetfec", {}},
};

const Driver* driver_of(std::string_view device) {
  const auto found = std::find_if(kDrivers.begin(), kDrivers.end(),
                                  [&](const Driver& d) { return device.starts_with(d.name); });
  return found == kDrivers.end() ? nullptr : &*found;
}

bool is_driver(const Driver& driver, std::string_view name) {
  return driver.name.substr(driver.name.find('_')) == name;
}

bool names_interface(const Driver& driver, std::string_view key) {
  if (is_driver(driver, "_tap")) return key == "remote";  // `iface` is the one that it makes
  if (is_driver(driver, "_af_packet") || is_driver(driver, "_af_xdp")) return key == "iface";
  return is_driver(driver, "_pcap") && key.ends_with("iface");
}

Why why_no_capture(const std::string& file) {
  std::error_code ignored;
  const auto status = std::filesystem::status(file, ignored);
  if (std::filesystem::is_fifo(status)) return std::nullopt;  // reading would take from it
  // The engine may have rights that we have not.
  if (geteuid() != 0 && std::filesystem::exists(status) && access(file.c_str(), R_OK) != 0)
    return std::nullopt;
  std::array<char, PCAP_ERRBUF_SIZE> error{};
  const std::unique_ptr<pcap_t, void (*)(pcap_t*)> capture(
      pcap_open_offline(file.c_str(), error.data()), pcap_close);
  if (capture != nullptr) return std::nullopt;
  const std::string_view text(error.data());
  return text.starts_with(file) ? std::string(text) : fmt::format("{}: {}", file, text);
}

// A file that the driver will make, or write anew.
Why why_no_output(const std::string& file) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) return fmt::format("{} is a folder", file);
  const path folder = path(file).parent_path();
  if (std::filesystem::is_directory(folder, error)) return std::nullopt;
  return fmt::format("{} cannot be made: there is no folder {}", file, folder.native());
}

Why why_no_argument(const Driver& driver, const DeviceArgs& device, const DeviceArgument& a) {
  const std::string wanted = fmt::format(" {} ", a.key);
  if (!driver.arguments.empty() && driver.arguments.find(wanted) == std::string_view::npos) {
    return fmt::format("{} has no argument \"{}\", only{}", driver.name, a.key,
                       driver.arguments.substr(0, driver.arguments.size() - 1));
  }
  if (names_interface(driver, a.key) && if_nametoindex(a.value.c_str()) == 0)
    return fmt::format("there is no network interface named \"{}\" here", a.value);
  if (is_driver(driver, "_tap") && a.key == "iface" && a.value.size() >= IFNAMSIZ)
    return fmt::format("an interface's name has at most {} characters", IFNAMSIZ - 1);
  if (is_driver(driver, "_pcap") && a.key == "rx_pcap") return why_no_capture(a.value);
  if (is_driver(driver, "_pcap") && a.key == "tx_pcap") return why_no_output(a.value);
  if (is_driver(driver, "_memif") && a.key == "socket" && device.value("socket-abstract") == "no")
    return why_no_output(a.value);
  return std::nullopt;
}

Why why_no_pci_device(const DeviceArgs& device) {
  std::error_code error;
  if (std::filesystem::exists(path("/sys/bus/pci/devices") / device.name, error))
    return std::nullopt;
  return fmt::format("there is no PCI device {} here", device.name);
}

}  // namespace

Why why_no_core(uint32_t core) {
  const std::string folder = fmt::format("/sys/devices/system/cpu/cpu{}", core);
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) {
    return fmt::format("core {} does not exist here: there are {}", core,
                       first_line("/sys/devices/system/cpu/present"));
  }
  if (core >= CPU_SETSIZE) return fmt::format("core {} is more than threads can be put on", core);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  int error = 0;
  // In a thread of its own, so that this one stays where it may be.
  std::thread([&] { error = sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno; }).join();
  if (error == 0) return std::nullopt;
  return fmt::format("core {} is offline, or not among those that this process may use ({})", core,
                     system_text(error));
}

Why why_no_device(const DeviceArgs& device, bool own_drivers) {
  if (device.pci) return why_no_pci_device(device);
  const Driver* driver = driver_of(device.name);
  if (driver == nullptr) {
    if (own_drivers) return std::nullopt;
    return fmt::format("DPDK has no driver for a device named \"{}\"", device.name);
  }
  for (const DeviceArgument& a : device.arguments) {
    if (Why why = why_no_argument(*driver, device, a)) return why;
  }
  const bool on_interface = is_driver(*driver, "_af_packet") || is_driver(*driver, "_af_xdp");
  if (on_interface && device.value("iface").empty())
    return fmt::format("{} needs iface=NAME", driver->name);
  if (is_driver(*driver, "_pcap") && device.arguments.empty())
    return fmt::format("{} needs rx_pcap=FILE, tx_pcap=FILE or an interface", driver->name);
  return std::nullopt;
}

uint64_t hugepages_mb() {
  constexpr std::string_view kPrefix = "hugepages-";
  uint64_t kb = 0;
  std::error_code error;
  for (const auto& size : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    const std::string name = size.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const uint64_t each = std::strtoull(name.c_str() + kPrefix.size(), nullptr, 10);
    kb += each * (number_in(size.path() / "nr_hugepages") +
                  number_in(size.path() / "nr_overcommit_hugepages"));
  }
  return kb >> 10;
}

uint64_t host_memory_mb() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) >>
         20;
}

}  // namespace limpet::port
