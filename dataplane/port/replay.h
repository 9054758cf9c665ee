// What a replay needs of its ports: capture times, the order of packets over all ports, and output
// files that are the same each time.
//
// Thread: the one that replays. Needs a running Eal for the buffers, not for the files.
#pragma once

#include <rte_mbuf_dyn.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/timing/time.h"
#include "dataplane/packet/buffer.h"

struct pcap;
struct pcap_dumper;

namespace limpet::port {

// Where net_pcap leaves a packet's capture time: a dynamic field of the mbuf, in microseconds.
class CaptureTimes {
 public:
  // Registers the field, or finds it. Call after Eal::start().
  static base::Result<CaptureTimes> find();

  // Nothing when the device gave none (infinite_rx, other drivers).
  std::optional<timing::WallTime> of(const packet::Buffer* buffer) const {
    if ((buffer->ol_flags & flag_) == 0) return {};
    const uint64_t microseconds = *RTE_MBUF_DYNFIELD(buffer, offset_, const uint64_t*);
    return timing::WallTime{static_cast<int64_t>(microseconds) * 1000};
  }

 private:
  int offset_ = 0;
  uint64_t flag_ = 0;
};

// The packets of all sources, earliest first; at the same time in the order of the sources. Keeps
// one packet of each.
//
// A source that gives nothing is at its end for good: net_pcap's receive returns 0 when the file is
// over. A packet without a capture time has no place in the order; it is released, and its source
// counts as over, too (net_null would go on for ever). Times that go backwards within a source are
// handed on as they are.
class ReplayReader {
 public:
  struct Packet {
    packet::Buffer* buffer = nullptr;
    timing::WallTime time;
    uint32_t source = 0;
  };
  // The next packet of a source, or null.
  using Receive = std::function<packet::Buffer*(uint32_t source)>;
  using TimeOf = std::function<std::optional<timing::WallTime>(const packet::Buffer*)>;

  // `sources`: receive queues, numbered in port order.
  ReplayReader(uint32_t sources, Receive receive, TimeOf time_of);
  ~ReplayReader();
  ReplayReader(const ReplayReader&) = delete;
  ReplayReader& operator=(const ReplayReader&) = delete;

  // When the next packet was captured; nothing at the end.
  std::optional<timing::WallTime> peek() const;
  // The next packet, now the caller's; nothing at the end.
  std::optional<Packet> next();

 private:
  void fill(uint32_t source);
  // Index into heads_ of the next packet.
  std::optional<uint32_t> first() const;

  Receive receive_;
  TimeOf time_of_;
  std::vector<std::optional<Packet>> heads_;  // by source; nothing: over
};

// A capture file as tcpdump writes it: microseconds, ethernet, whole frames. Nothing in it depends
// on the machine or the hour.
class ReplayWriter {
 public:
  // Creates or empties `path`.
  static base::Result<ReplayWriter> open(const std::string& path);

  // Appends a frame of any number of segments, sent at `time`; the buffer stays the caller's.
  void write(const packet::Buffer* frame, timing::WallTime time);
  // Writes what is buffered. Error: the disk is full, or similar; so was some write before.
  base::Status finish();

  uint64_t frames() const { return frames_; }

 private:
  struct Close {
    void operator()(pcap* handle) const;
    void operator()(pcap_dumper* dumper) const;
  };
  ReplayWriter(std::string path, pcap* handle, pcap_dumper* dumper);

  std::string path_;
  std::unique_ptr<pcap, Close> handle_;
  std::unique_ptr<pcap_dumper, Close> dumper_;
  std::vector<uint8_t> scratch_;
  uint64_t frames_ = 0;
};

}  // namespace limpet::port
