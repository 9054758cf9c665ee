#include "dataplane/port/link.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace limpet::port {
namespace {

class Socket {
 public:
  Socket(int family, int kind, int protocol = 0)
      : fd_(socket(family, kind | SOCK_CLOEXEC, protocol)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

bool ask(unsigned if_index, unsigned long what, ifreq* request) {
  if (if_index == 0 ||
      (request->ifr_name[0] == 0 && if_indextoname(if_index, request->ifr_name) == nullptr))
    return false;
  const Socket socket(AF_INET, SOCK_DGRAM);
  return socket.fd() >= 0 && ioctl(socket.fd(), what, request) == 0;
}

// The statistics in an answer of the kernel's about one interface.
std::optional<rtnl_link_stats64> statistics(const nlmsghdr* message, std::size_t bytes) {
  if (!NLMSG_OK(message, bytes) || message->nlmsg_type != RTM_NEWLINK) return {};
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  auto left = static_cast<int>(IFLA_PAYLOAD(message));
  for (const rtattr* a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    if (a->rta_type != IFLA_STATS64) continue;
    rtnl_link_stats64 out{};
    std::memcpy(&out, RTA_DATA(a), std::min<std::size_t>(sizeof out, RTA_PAYLOAD(a)));
    return out;
  }
  return {};
}

}  // namespace

std::optional<uint32_t> Link::mtu() const {
  ifreq request{};
  if (!ask(if_index_, SIOCGIFMTU, &request)) return {};
  return static_cast<uint32_t>(request.ifr_mtu);
}

std::optional<Link::Drops> Link::drops() const {
  const Socket socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (if_index_ == 0 || socket.fd() < 0) return {};
  struct {
    nlmsghdr header;
    ifinfomsg link;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = RTM_GETLINK;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.link.ifi_index = static_cast<int>(if_index_);
  if (send(socket.fd(), &question, sizeof question, 0) < 0) return {};
  alignas(nlmsghdr) std::array<std::byte, 16384> answer;
  const ssize_t bytes = recv(socket.fd(), answer.data(), answer.size(), 0);
  if (bytes < 0) return {};
  const auto found =
      statistics(reinterpret_cast<const nlmsghdr*>(answer.data()), static_cast<std::size_t>(bytes));
  if (!found) return {};
  return Drops{.received = found->rx_dropped, .sent = found->tx_dropped};
}

void Link::lengthen_queue(uint32_t frames) const {
  ifreq request{};
  if (!ask(if_index_, SIOCGIFTXQLEN, &request)) return;
  if (static_cast<uint32_t>(request.ifr_qlen) >= frames) return;
  request.ifr_qlen = static_cast<int>(frames);
  ask(if_index_, SIOCSIFTXQLEN, &request);
}

}  // namespace limpet::port
