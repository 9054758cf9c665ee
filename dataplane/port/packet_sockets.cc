#include "dataplane/port/packet_sockets.h"

#include <dirent.h>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

namespace {

// In the option's value the upper half is the kind of the group and its flags.
constexpr uint32_t kDefragment = uint32_t{PACKET_FANOUT_FLAG_DEFRAG} << 16;

}  // namespace

extern "C" int setsockopt(int fd, int level, int option, const void* value,
                          socklen_t bytes) noexcept {
  uint32_t group = 0;
  if (level == SOL_PACKET && option == PACKET_FANOUT && value != nullptr && bytes == sizeof group) {
    std::memcpy(&group, value, sizeof group);
    group &= ~kDefragment;
    value = &group;
  }
  return static_cast<int>(syscall(SYS_setsockopt, fd, level, option, value, bytes));
}

namespace limpet::port {
namespace {

// What the kernel answers: the group's number, kind and flags; nothing when the socket is in none.
std::optional<uint32_t> group_of(int fd) {
  uint32_t group = 0;
  socklen_t bytes = sizeof group;
  if (getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, &bytes) != 0 || group == 0) return {};
  return group;
}

bool receives_from(int fd, unsigned if_index) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0 ||
      storage.ss_family != AF_PACKET)
    return false;
  sockaddr_ll link{};
  std::memcpy(&link, &storage, sizeof link);
  return static_cast<unsigned>(link.sll_ifindex) == if_index && group_of(fd).has_value();
}

}  // namespace

PacketSockets PacketSockets::of(unsigned if_index) {
  PacketSockets out;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  if (folder == nullptr) return out;
  while (const dirent* entry = readdir(folder.get())) {
    const std::string_view name(entry->d_name);
    int fd = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
    if (error == std::errc() && receives_from(fd, if_index)) out.fds_.push_back(fd);
  }
  return out;
}

uint64_t PacketSockets::take_lost() {
  uint64_t lost = 0;
  for (const int fd : fds_) {
    tpacket_stats stats{};
    socklen_t bytes = sizeof stats;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &bytes) == 0) lost += stats.tp_drops;
  }
  return lost;
}

bool PacketSockets::reassemble() const {
  for (const int fd : fds_) {
    if ((group_of(fd).value_or(0) & kDefragment) != 0) return true;
  }
  return false;
}

}  // namespace limpet::port
