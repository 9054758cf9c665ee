// Reads groups of addresses (IpAddrGroup), of which every address is a server of the pools that
// name the group.
#include <fmt/format.h>

#include <algorithm>

#include "control/config/draft.h"

namespace limpet::config {
namespace {

constexpr int64_t kElementsMax = 32'000;  // Avi's ips_per_ipgroup

// The number of addresses from `first` to `last`, but no more than kGroupAddressesMax + 1.
std::size_t count_addresses(const net::Address& first, const net::Address& last) {
  // The difference in numeric order, byte by byte from the end; beyond 32 bits only that it is big.
  uint64_t difference = 0;
  int borrow = 0;
  for (std::size_t i = 16; i-- > 0;) {
    int byte = last.bytes()[i] - first.bytes()[i] - borrow;
    borrow = byte < 0 ? 1 : 0;
    if (byte < 0) byte += 256;
    const std::size_t from_end = 15 - i;
    if (from_end < 4) {
      difference |= static_cast<uint64_t>(byte) << (8 * from_end);
    } else if (byte != 0) {
      return kGroupAddressesMax + 1;
    }
  }
  return std::min<std::size_t>(difference + 1, kGroupAddressesMax + 1);
}

void add_range(const net::Address& first, const net::Address& last, AddressGroup* group) {
  group->ranges.push_back({first, last});
  group->addresses =
      std::min(group->addresses + count_addresses(first, last), kGroupAddressesMax + 1);
}

// The last address of the prefix whose first one is `network`.
net::Address last_of(const net::Address& network, int64_t length) {
  std::array<uint8_t, 16> bytes{};
  const std::size_t size = network.is_v4() ? 4 : 16;
  std::copy_n(network.wire(), size, bytes.begin());
  for (std::size_t bit = static_cast<std::size_t>(length); bit < 8 * size; ++bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | (0x80 >> bit % 8));
  }
  return network.is_v4() ? net::Address::v4(bytes.data()) : net::Address::v6(bytes.data());
}

// Calls `read(Fields&)` for each element of the list.
template <class Read>
void for_each_element(const Fields& fields, std::string_view key, Read&& read) {
  const Path list = fields.at(key);
  std::size_t index = 0;
  for (const Json& item : fields.array(key, {0, kElementsMax})) {
    const Path path(list, index++);
    const Fields one(item, path, &fields.problems(), Strictness::kTolerant);
    if (one) read(one);
  }
}

void read_addresses(const Fields& fields, AddressGroup* group) {
  for_each_element(fields, "addrs", [&](const Fields& ip) {
    if (const auto address = read_ip(ip, Names::kRefused)) {
      add_range(address->address, address->address, group);
    }
  });
}

void read_ranges(const Fields& fields, AddressGroup* group) {
  for_each_element(fields, "ranges", [&](const Fields& range) {
    range.require("begin");
    range.require("end");
    const auto begin = read_ip(range.object("begin"), Names::kRefused);
    const auto end = read_ip(range.object("end"), Names::kRefused);
    if (!begin || !end) return;
    const net::Address& first = begin->address;
    const net::Address& last = end->address;
    if (first.is_v4() != last.is_v4() || last < first) {
      return range.error("end", fmt::format("must not be below the begin, {}", first.to_string()));
    }
    add_range(first, last, group);
  });
}

void read_prefixes(const Fields& fields, AddressGroup* group) {
  for_each_element(fields, "prefixes", [&](const Fields& prefix) {
    prefix.require("ip_addr");
    prefix.require("mask");
    const auto address = read_ip(prefix.object("ip_addr"), Names::kRefused);
    const auto length = prefix.integer("mask", {0, 128});
    if (!address || !length) return;
    const int bits = address->address.is_v4() ? 32 : 128;
    if (*length > bits) {
      return prefix.error("mask", fmt::format("{} is out of range: 0 to {}", *length, bits));
    }
    const net::Address network = address->address.masked(static_cast<uint8_t>(*length));
    add_range(network, last_of(network, *length), group);
  });
}

std::string_view missing_of_group(const Fields& fields) {
  if (!fields.array("country_codes").empty()) return "country codes";
  if (!fields.array("ip_ports").empty()) return "ports of their own (ip_ports)";
  for (const std::string_view key : {"apic_epg_name", "marathon_app_name"}) {
    if (fields.has(key) && !fields.says(key, "")) return "addresses found elsewhere";
  }
  return {};
}

}  // namespace

void read_address_groups(Draft* draft) {
  for_each_object(*draft, Target::kIpAddrGroup, [&](Fields& fields, const Header&) {
    AddressGroup group;
    read_addresses(fields, &group);
    read_ranges(fields, &group);
    read_prefixes(fields, &group);
    group.missing = missing_of_group(fields);
    fields.ignore({"marathon_service_port"});
    draft->address_groups.push_back(std::move(group));
  });
}

}  // namespace limpet::config
