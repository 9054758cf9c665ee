// DPDK telemetry as its clients see it: commands on DPDK's own socket.
#include <gtest/gtest.h>
#include <rte_eal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "control/api/telemetry.h"

namespace limpet::api {
namespace {

using nlohmann::json;

class TelemetryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string prefix = "--file-prefix=limpet-unit-" + std::to_string(::getpid());
    std::vector<std::string> arguments = {"unit", "--no-huge", "--no-pci", "--no-shconf",
                                          "-m",   "16",        prefix,     "--log-level=error"};
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    ASSERT_GE(rte_eal_init(static_cast<int>(pointers.size()), pointers.data()), 0);
    ASSERT_TRUE(register_telemetry().ok());
  }
  static void TearDownTestSuite() {
    const std::string folder = rte_eal_get_runtime_dir();
    rte_eal_cleanup();
    std::error_code ignored;  // DPDK leaves the folder behind, empty
    std::filesystem::remove(folder, ignored);
  }

  static json ask(const std::string& command) {
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    const std::string path = std::string(rte_eal_get_runtime_dir()) + "/dpdk_telemetry.v2";
    path.copy(to.sun_path, sizeof(to.sun_path) - 1);
    std::string bytes(65'536, '\0');
    ssize_t received = -1;
    if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 &&
        ::recv(fd, bytes.data(), bytes.size(), 0) > 0 &&  // the greeting
        ::send(fd, command.data(), command.size(), MSG_NOSIGNAL) > 0)
      received = ::recv(fd, bytes.data(), bytes.size(), 0);
    ::close(fd);
    if (received <= 0) return {};
    return json::parse(bytes.substr(0, static_cast<std::size_t>(received)), nullptr, false);
  }
};

TEST_F(TelemetryTest, answers_with_the_view_published_last) {
  EXPECT_EQ(ask("/limpet/drops")["/limpet/drops"], json::object());
  publish_telemetry({.name = "se0", .ports = {}, .workers = {}, .drops = {}, .evictions = {}});
  publish_telemetry({.name = "se1",
                     .version = "0.1.0",
                     .generation = 3,
                     .uptime_s = 61,
                     .ports = {{"front.100", "02:00:00:00:00:01", true, 10, 20}},
                     .workers = {{1, 12.5, 5, 4}},
                     .virtual_services = 2,
                     .virtual_services_up = 1,
                     .connections = 6,
                     .drops = {{"truncated", 7}, {"no_flow", 8}},
                     .entries = 9,
                     .entries_max = 100,
                     .entry_bytes = 64,
                     .lookups = {.hit = 3, .miss = 1, .moved = 2, .created = 4, .refused = 5},
                     .evictions = {{"idle", 4}}});

  EXPECT_EQ(ask("/limpet/drops")["/limpet/drops"], json::parse(R"({"truncated":7,"no_flow":8})"));
  EXPECT_EQ(ask("/limpet/persistence")["/limpet/persistence"], json::parse(R"({
    "entries": 9, "entries_max": 100, "entry_bytes": 64,
    "lookups": {"hit": 3, "miss": 1, "moved": 2, "new": 4, "refused": 5},
    "evictions": {"idle": 4}})"));
  EXPECT_EQ(ask("/limpet/status")["/limpet/status"], json::parse(R"({
    "name": "se1", "version": "0.1.0", "generation": 3, "uptime_s": 61,
    "ports": {"front_100": {"mac": "02:00:00:00:00:01", "link": "up", "rx_packets": 10,
                            "tx_packets": 20}},
    "workers": {"1": {"busy_percent": 12, "flows": 5, "entries": 4}},
    "virtual_services": 2, "virtual_services_up": 1, "connections": 6})"));
}

TEST_F(TelemetryTest, stays_within_the_bounds_of_an_answer) {
  TelemetryView view;
  for (int i = 0; i < 1000; ++i)
    view.drops.push_back({std::to_string(i) + " reason " + std::string(200, 'x'), 1});
  publish_telemetry(std::move(view));
  const json drops = ask("/limpet/drops")["/limpet/drops"];
  ASSERT_TRUE(drops.is_object());
  EXPECT_GT(drops.size(), 10u);
  EXPECT_LT(drops.size(), 1000u);
}

}  // namespace
}  // namespace limpet::api
