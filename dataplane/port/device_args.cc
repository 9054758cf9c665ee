#include "dataplane/port/device_args.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>

namespace limpet::port {

namespace {

bool is_hex(std::string_view text, std::size_t digits_min, std::size_t digits_max) {
  return text.size() >= digits_min && text.size() <= digits_max &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c); });
}

// "3b:00.1" or "0000:3b:00.1" in lower case with the domain; empty for anything else.
std::string pci_address(std::string_view text) {
  const std::size_t dot = text.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view function = text.substr(dot + 1);
  std::string_view rest = text.substr(0, dot);
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return {};
  const std::string_view slot = rest.substr(colon + 1);
  rest = rest.substr(0, colon);
  const std::size_t domain_end = rest.find(':');
  std::string_view domain = "0000";
  if (domain_end != std::string_view::npos) {
    domain = rest.substr(0, domain_end);
    rest = rest.substr(domain_end + 1);
  }
  if (!is_hex(domain, 4, 8) || !is_hex(rest, 2, 2) || !is_hex(slot, 2, 2)) return {};
  if (function.size() != 1 || function[0] < '0' || function[0] > '7') return {};
  std::string address(domain);
  for (const std::string_view part : {std::string_view(":"), rest, std::string_view(":"), slot,
                                      std::string_view("."), function}) {
    address += part;
  }
  std::transform(address.begin(), address.end(), address.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return address;
}

bool is_virtual_name(std::string_view name) {
  constexpr std::size_t kNameMax = 63;  // RTE_DEV_NAME_MAX_LEN with its zero
  const bool prefixed =
      name.starts_with("net_") || name.starts_with("eth_") || name.starts_with("virtio_user");
  return prefixed && name.size() <= kNameMax &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

}  // namespace

std::string_view DeviceArgs::value(std::string_view key) const {
  for (const DeviceArgument& a : arguments) {
    if (a.key == key) return a.value;
  }
  return {};
}

uint32_t DeviceArgs::number(std::string_view key, uint32_t otherwise) const {
  const std::string_view text = value(key);
  std::from_chars(text.data(), text.data() + text.size(), otherwise);
  return otherwise;
}

std::string DeviceArgs::argument_text() const {
  std::string text;
  for (const DeviceArgument& a : arguments) {
    if (!text.empty()) text += ',';
    text += a.key;
    if (!a.value.empty()) text += '=' + a.value;
  }
  return text;
}

std::string DeviceArgs::text() const {
  return arguments.empty() ? name : name + ',' + argument_text();
}

base::Result<DeviceArgs> parse_device(std::string_view device) {
  DeviceArgs parsed;
  const std::size_t name_end = std::min(device.find(','), device.size());
  const std::string_view name = device.substr(0, name_end);
  if (name.empty()) return base::Error{"", "the device has no name"};
  if (std::string address = pci_address(name); !address.empty()) {
    parsed.name = std::move(address);
    parsed.pci = true;
  } else if (is_virtual_name(name)) {
    parsed.name = name;
  } else {
    return base::Error{"", '"' + std::string(name) +
                               "\" is neither a PCI address (0000:3b:00.1) nor a DPDK virtual "
                               "device (net_af_packet0)"};
  }
  for (std::size_t at = name_end; at < device.size();) {
    const std::size_t end = std::min(device.find(',', at + 1), device.size());
    const std::string_view text = device.substr(at + 1, end - at - 1);
    at = end;
    const std::size_t equals = std::min(text.find('='), text.size());
    if (equals == 0) {
      return base::Error{"", "an argument of device " + parsed.name + " has no name"};
    }
    parsed.arguments.push_back(
        {std::string(text.substr(0, equals)),
         std::string(equals < text.size() ? text.substr(equals + 1) : std::string_view())});
  }
  return parsed;
}

namespace {

constexpr uint32_t kPageBytes = 4096;
constexpr uint32_t kBlockBytesMax = 1 << 18;
constexpr uint32_t kFrameAlignment = 16;  // TPACKET_ALIGNMENT

bool is_af_packet(const DeviceArgs& device) {
  return device.is("net_af_packet") || device.is("eth_af_packet");
}

}  // namespace

DeviceArgs with_defaults(const DeviceArgs& device) {
  DeviceArgs out = device;
  if (!is_af_packet(device)) return out;
  const auto add = [&](const char* key, uint64_t number) {
    if (device.value(key).empty()) out.arguments.push_back({key, std::to_string(number)});
  };
  const uint32_t frame = device.number("framesz", kFrameBytes);
  // Others are for the driver to judge.
  if (frame == 0 || frame % kFrameAlignment != 0) return out;
  const auto filled = std::lcm<uint64_t>(frame, kPageBytes);
  if (filled > kBlockBytesMax) return out;
  const uint64_t block = device.number("blocksz", static_cast<uint32_t>(filled));
  const uint64_t frames = uint64_t{kRingFrames} * kFrameBytes / std::max(frame, kFrameBytes);
  const uint64_t each = std::max<uint64_t>(block / frame, 1);
  add("framecnt", std::max<uint64_t>(frames / each, 1) * each);
  add("blocksz", block);
  return out;
}

std::string what_is_small(const DeviceArgs& device) {
  constexpr uint32_t kFew = 4096;
  const uint32_t frames = device.number("framecnt", kRingFrames);
  if (!is_af_packet(device) || frames >= kFew) return {};
  return fmt::format(
      "framecnt={}: a burst of more frames is lost (drop reason device_missed); {} "
      "are made without it",
      frames, kRingFrames);
}

ReplayDevice for_replay(const DeviceArgs& device) {
  ReplayDevice replay{.device = device, .outputs = {}};
  if (!device.is("net_pcap")) return replay;
  std::vector<DeviceArgument>& arguments = replay.device.arguments;
  for (const DeviceArgument& a : device.arguments) {
    if (a.key == "tx_pcap") replay.outputs.push_back(a.value);
  }
  std::erase_if(arguments, [](const DeviceArgument& a) { return a.key == "tx_pcap"; });
  if (arguments.empty()) {
    replay.device = {
        .name = "net_null_" + device.name, .pci = false, .arguments = {{"no-rx", "1"}}};
  }
  return replay;
}

}  // namespace limpet::port
