#include "dataplane/port/replay.h"

#include <fmt/format.h>
#include <pcap/pcap.h>
#include <rte_errno.h>
#include <rte_mbuf_dyn.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "dataplane/port/eal.h"

namespace limpet::port {

namespace {

constexpr int kFrameBytesMax = 65'535;
constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

base::Result<CaptureTimes> CaptureTimes::find() {
  CaptureTimes times;
  if (rte_mbuf_dyn_rx_timestamp_register(&times.offset_, &times.flag_) != 0)
    return base::Error{"", "no room for capture times in buffers: " + error_text(rte_errno)};
  return times;
}

ReplayReader::ReplayReader(uint32_t sources, Receive receive, TimeOf time_of)
    : receive_(std::move(receive)), time_of_(std::move(time_of)), heads_(sources) {
  for (uint32_t i = 0; i < sources; ++i) fill(i);
}

ReplayReader::~ReplayReader() {
  for (const std::optional<Packet>& head : heads_) {
    if (head) packet::release(head->buffer);
  }
}

void ReplayReader::fill(uint32_t source) {
  heads_[source].reset();
  packet::Buffer* buffer = receive_(source);
  if (buffer == nullptr) return;
  const std::optional<timing::WallTime> time = time_of_(buffer);
  if (!time) {
    packet::release(buffer);
    return;
  }
  heads_[source] = Packet{.buffer = buffer, .time = *time, .source = source};
}

std::optional<uint32_t> ReplayReader::first() const {
  std::optional<uint32_t> best;
  for (uint32_t i = 0; i < heads_.size(); ++i) {
    if (heads_[i] && (!best || heads_[i]->time < heads_[*best]->time)) best = i;
  }
  return best;
}

std::optional<timing::WallTime> ReplayReader::peek() const {
  const std::optional<uint32_t> i = first();
  if (!i) return {};
  return heads_[*i]->time;
}

std::optional<ReplayReader::Packet> ReplayReader::next() {
  const std::optional<uint32_t> i = first();
  if (!i) return {};
  const Packet packet = *heads_[*i];
  fill(*i);
  return packet;
}

void ReplayWriter::Close::operator()(pcap* handle) const {
  pcap_close(handle);
}

void ReplayWriter::Close::operator()(pcap_dumper* dumper) const {
  pcap_dump_close(dumper);
}

ReplayWriter::ReplayWriter(std::string path, pcap* handle, pcap_dumper* dumper)
    : path_(std::move(path)), handle_(handle), dumper_(dumper), scratch_(kFrameBytesMax) {}

base::Result<ReplayWriter> ReplayWriter::open(const std::string& path) {
  std::unique_ptr<pcap, Close> handle(pcap_open_dead(DLT_EN10MB, kFrameBytesMax));
  if (handle == nullptr) return base::Error{"", path + ": libpcap has no memory"};
  pcap_dumper* dumper = pcap_dump_open(handle.get(), path.c_str());
  if (dumper == nullptr)
    return base::Error{"", fmt::format("cannot write {}", pcap_geterr(handle.get()))};
  return ReplayWriter(path, handle.release(), dumper);
}

void ReplayWriter::write(const packet::Buffer* frame, timing::WallTime time) {
  const uint32_t bytes = std::min<uint32_t>(frame->pkt_len, kFrameBytesMax);
  const void* data = rte_pktmbuf_read(frame, 0, bytes, scratch_.data());
  pcap_pkthdr header{};
  header.ts.tv_sec = time.ns / kSecondNs;
  header.ts.tv_usec = time.ns % kSecondNs / 1000;
  header.caplen = bytes;
  header.len = frame->pkt_len;
  pcap_dump(reinterpret_cast<u_char*>(dumper_.get()), &header, static_cast<const u_char*>(data));
  ++frames_;
}

base::Status ReplayWriter::finish() {
  const bool failed = std::ferror(pcap_dump_file(dumper_.get())) != 0;
  if (pcap_dump_flush(dumper_.get()) != 0 || failed)
    return base::Error{"", "cannot write " + path_ + " to the end"};
  return base::Done{};
}

}  // namespace limpet::port
