// What this host has of what a bootstrap names: cores, hugepages, drivers, interfaces, captures,
// PCI devices. Answers without root and without DPDK, so before it is started; "no reason found" is
// no promise that a device opens.
//
// Thread: any; not for the data path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dataplane/port/device_args.h"

namespace limpet::port {

// Why no thread of ours could run on this core; nothing when one can.
std::optional<std::string> why_no_core(uint32_t core);

// Why DPDK could not open this device; nothing when no reason is known.
// `own_drivers`: others than DPDK's own may be loaded, so a name that is not known may be theirs.
std::optional<std::string> why_no_device(const DeviceArgs& device, bool own_drivers);

// Of all sizes, in use or not, and those that the kernel may make when they are asked for.
uint64_t hugepages_mb();

// Of the whole host.
uint64_t host_memory_mb();

}  // namespace limpet::port
