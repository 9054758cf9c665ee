// What is looked at before DPDK starts, and what is made of what it prints: EAL's options, this
// host's cores and devices, the runtime folder.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/port/eal.h"
#include "dataplane/port/eal_options.h"
#include "dataplane/port/host.h"
#include "dataplane/port/output_capture.h"
#include "dataplane/port/runtime_folder.h"

namespace limpet::port {
namespace {

using Options = std::vector<std::string>;
using std::filesystem::path;

// ---- EAL's options ----

std::string first_wrong(const Options& options, bool hugepages = true) {
  const base::Errors errors = check_eal_options(options, hugepages);
  return errors.empty() ? "" : errors.front().path + ": " + errors.front().message;
}

TEST(EalOptionCheck, WhatDpdkKnowsAndTheEngineDoesNotSetPasses) {
  for (const Options& options : std::vector<Options>{
           {},
           {"--iova-mode=va"},
           {"--iova-mode", "va"},
           {"--iova=pa"},  // getopt takes a beginning that only one option has
           {"-n4"},
           {"-n", "4", "-r2"},
           {"-vn4"},
           {"--log-level=pmd.net.*:debug", "--log-level=7", "--log-level", "lib.eal,err"},
           {"-d", "/opt/drivers"},
           {"--huge-worker-stack"},
           {"--huge-worker-stack=64"},
           {"--base-virtaddr=0x100000000"},
           {"--force-max-simd-bitwidth=256", "--no-telemetry", "--syslog=local3"},
           {"--vdev=crypto_null0", "--socket-limit", "512,512"},
       }) {
    EXPECT_EQ(first_wrong(options), "");
  }
}

TEST(EalOptionCheck, EachWrongElementIsNamed) {
  struct Row {
    Options options;
    const char* path;
    const char* message;
  };
  for (const Row& row : std::vector<Row>{
           {{"--iova-mode=va", "--no-such"}, "/eal/1", "DPDK has no option --no-such"},
           {{"-x"}, "/eal/0", "DPDK has no option -x"},
           {{"-vx"}, "/eal/0", "DPDK has no option -x"},
           {{"--no"}, "/eal/0", "--no may be several of DPDK's options"},
           {{"--=x"}, "/eal/0", "DPDK has no option --"},
           {{"va"}, "/eal/0", "\"va\" is no option, and no option before it wants it"},
           {{"-v", "va"}, "/eal/1", "\"va\" is no option, and no option before it wants it"},
           {{"-n", "4", "4"}, "/eal/2", "\"4\" is no option, and no option before it wants it"},
           {{"--huge-worker-stack", "64"},
            "/eal/1",
            "\"64\" is no option, and no option before it wants it"},
           {{"-v", "--iova-mode"}, "/eal/1", "--iova-mode needs a value"},
           {{"-n"}, "/eal/0", "-n needs a value"},
           {{"--no-hpet=1"}, "/eal/0", "--no-hpet takes no value"},
           {{"--iova-mode=xa"}, "/eal/0", "\"xa\" is no value of --iova-mode, which is pa or va"},
           {{"-n0"}, "/eal/0", "\"0\" is no value of -n, which is a number of channels"},
           {{"-v", "--", "-v"}, "/eal/1", "ends DPDK's options: what follows would be nobody's"},
       }) {
    EXPECT_EQ(first_wrong(row.options), std::string(row.path) + ": " + row.message);
  }
}

TEST(EalOptionCheck, WhatTheEngineSetsItselfIsRefused) {
  for (const Options& options : std::vector<Options>{
           {"-l", "0-3"},
           {"-l0"},
           {"-c0xf"},
           {"--lcores=0"},
           {"--main-lcore=1"},
           {"-s", "1"},
           {"-S1"},
           {"-m", "64"},
           {"--socket-mem=64"},
           {"--no-huge"},
           {"--in-memory"},
           {"--legacy-mem"},
           {"--no-shconf"},
           {"--huge-unlink"},
           {"--no-pci"},
           {"-a", "0000:00:01.0"},
           {"--allow=x"},
           {"-b", "x"},
           {"--block=x"},
           {"--file-prefix=x"},
           {"--proc-type=auto"},
           {"-h"},
           {"--help"},
           {"--log-level=help"},
       }) {
    EXPECT_NE(first_wrong(options).find("may not be set here"), std::string::npos)
        << options.front() << ": " << first_wrong(options);
  }
}

TEST(EalOptionCheck, ARefusedOptionTakesItsValueAlong) {
  EXPECT_EQ(check_eal_options({"-l", "0-3", "-v"}, true).size(), 1u);
}

TEST(EalOptionCheck, SomeNeedHugepages) {
  EXPECT_EQ(first_wrong({"--match-allocations"}), "");
  EXPECT_NE(first_wrong({"--match-allocations"}, false), "");
}

// ---- the host ----

std::string why_not(const std::string& text, bool own_drivers = false) {
  const auto device = parse_device(text);
  EXPECT_TRUE(device.ok()) << text;
  return why_no_device(device.value(), own_drivers).value_or("");
}

TEST(Host, ACoreThatIsThereWillDoAndOneThatIsNotIsNamed) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  uint32_t own = 0;
  while (!CPU_ISSET(own, &before)) ++own;
  EXPECT_EQ(why_no_core(own), std::nullopt);
  EXPECT_NE(why_no_core(1'023).value_or("").find("core 1023 does not exist here"),
            std::string::npos);
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after)) << "looking moved this thread";
}

TEST(Host, AnInterfaceMustExistWhereADriverTakesOne) {
  EXPECT_EQ(why_not("net_af_packet0,iface=lo,qpairs=2"), "");
  EXPECT_EQ(why_not("net_tap0,iface=new0,remote=lo"), "");
  for (const char* text : {"net_af_packet0,iface=absent0", "net_af_xdp0,iface=absent0",
                           "net_tap0,iface=new0,remote=absent0", "net_pcap0,iface=absent0",
                           "net_pcap0,rx_iface=absent0,tx_iface=lo"}) {
    EXPECT_EQ(why_not(text), "there is no network interface named \"absent0\" here") << text;
  }
  EXPECT_EQ(why_not("net_af_packet0"), "net_af_packet needs iface=NAME");
}

TEST(Host, ANewInterfacesNameMustFit) {
  EXPECT_EQ(why_not("net_tap0,iface=fifteen-letters"), "");
  EXPECT_NE(why_not("net_tap0,iface=sixteen--letters"), "");
}

TEST(Host, AnUnknownDriverIsNamedUnlessOthersMayBeLoaded) {
  EXPECT_EQ(why_not("net_foo0"), "DPDK has no driver for a device named \"net_foo0\"");
  EXPECT_EQ(why_not("net_foo0", true), "");
  EXPECT_EQ(why_not("net_null_net_pcap1,no-rx=1"), "");
  EXPECT_EQ(why_not("virtio_user0,path=/dev/vhost-net"), "");
}

TEST(Host, AnArgumentThatTheDriverDoesNotHaveIsNamed) {
  EXPECT_EQ(why_not("net_null0,sice=64"),
            "net_null has no argument \"sice\", only size copy no-rx");
}

TEST(Host, APciDeviceMustBeOnTheBus) {
  EXPECT_EQ(why_not("ffff:ff:1f.7"), "there is no PCI device ffff:ff:1f.7 here");
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "limpet-start-XXXXXX").native();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }

  path folder_;
};

using HostFiles = Files;

TEST_F(HostFiles, ACaptureMustBeThereAndBeOne) {
  EXPECT_NE(why_not("net_pcap0,rx_pcap=" + file("absent.pcap")).find("absent.pcap"),
            std::string::npos);
  write("text.pcap", "this is no capture, though it is long enough to have been one");
  EXPECT_NE(why_not("net_pcap0,rx_pcap=" + file("text.pcap")), "");
  const std::string header("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0",
                           24);
  write("good.pcap", header);
  EXPECT_EQ(why_not("net_pcap0,rx_pcap=" + file("good.pcap")), "");
}

TEST_F(HostFiles, WhatIsWrittenNeedsAFolder) {
  EXPECT_EQ(why_not("net_pcap0,tx_pcap=" + file("out.pcap")), "");
  EXPECT_NE(why_not("net_pcap0,tx_pcap=" + file("absent/out.pcap")).find("there is no folder"),
            std::string::npos);
  EXPECT_NE(why_not("net_memif0,socket-abstract=no,socket=" + file("absent/m.sock")), "");
  EXPECT_EQ(why_not("net_memif0,socket=" + file("absent/m.sock")), "") << "a name, not a file";
}

// ---- the runtime folder ----

class Runtime : public Files {
 protected:
  void SetUp() override {
    Files::SetUp();
    setenv("RUNTIME_DIRECTORY", folder_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("RUNTIME_DIRECTORY");
    Files::TearDown();
  }
  static base::Result<RuntimeFolder> take() { return RuntimeFolder::take("se1", "limpet-se1"); }
};

TEST_F(Runtime, LiesWhereDpdkPutsIt) {
  EXPECT_EQ(RuntimeFolder::of("limpet-se1"), folder_ / "dpdk/limpet-se1");
}

TEST_F(Runtime, OfAListOfFoldersTheFirstIsUsedByDpdkToo) {
  setenv("RUNTIME_DIRECTORY", (folder_.native() + ":/run/dpdk").c_str(), 1);
  EXPECT_EQ(RuntimeFolder::of("limpet-se1"), folder_ / "dpdk/limpet-se1");
  ASSERT_TRUE(take().ok());
  EXPECT_STREQ(std::getenv("RUNTIME_DIRECTORY"), folder_.c_str());
}

TEST_F(Runtime, ASecondOfTheSameNameIsToldWhoHasIt) {
  const auto first = take();
  ASSERT_TRUE(first.ok());
  const auto second = take();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(
      second.errors(),
      (base::Errors{{"/name", "an engine named \"se1\" runs on this host as process " +
                                  std::to_string(getpid()) + ": each needs a name of its own"}}));
  EXPECT_TRUE(RuntimeFolder::take("se2", "limpet-se2").ok());
}

TEST_F(Runtime, TheNameIsFreeAfterACleanEndAndNothingIsLeft) {
  { ASSERT_TRUE(take().ok()); }
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "dpdk"));
  EXPECT_TRUE(take().ok());
}

TEST_F(Runtime, TheNameIsFreeAfterACrash) {
  const pid_t child = fork();
  if (child == 0) {
    auto taken = take();
    _exit(taken.ok() ? 0 : 1);  // without destructors
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(folder_ / "dpdk/limpet-se1/limpet-se.pid"));
  EXPECT_TRUE(take().ok());
}

TEST_F(Runtime, OfManyAtOnceOneHasIt) {
  constexpr int kProcesses = 8;
  constexpr int kRounds = 200;
  // Each writes its mark while it holds the name; whoever finds another's has proof of two.
  const std::string mark = file("mark");
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = fork();
    if (child != 0) {
      children.push_back(child);
      continue;
    }
    int held = 0;
    for (int i = 0; i < kRounds; ++i) {
      const auto taken = take();
      if (!taken.ok()) continue;
      ++held;
      const int fd = ::open(mark.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
      if (fd < 0) _exit(2);
      close(fd);
      unlink(mark.c_str());
    }
    _exit(held > 0 ? 0 : 3);
  }
  for (const pid_t child : children) {
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_NE(WEXITSTATUS(status), 2) << "two had the name at once";
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "dpdk"));
}

TEST_F(Runtime, AFolderThatCannotBeMadeIsAnError) {
  write("dpdk", "a file");
  const auto taken = take();
  ASSERT_FALSE(taken.ok());
  EXPECT_NE(taken.errors().front().message.find("RUNTIME_DIRECTORY"), std::string::npos);
}

TEST_F(Runtime, AReplayHasAPrefixOfItsOwn) {
  EXPECT_EQ(file_prefix({.name = "se1"}), "limpet-se1");
  EXPECT_EQ(file_prefix({.name = "se1", .replay = true}),
            "limpet-se1-replay-" + std::to_string(getpid()));
}

// ---- what DPDK prints ----

TEST(OutputCapture, KeepsWhatIsPrintedUntilItEnds) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  OutputCapture capture;
  std::fprintf(stderr, "EAL: a line\n");
  std::printf("Usage: a page of help\n");
  const std::string kept = capture.finish();
  std::fprintf(stderr, "afterwards\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "afterwards\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(kept, "EAL: a line\n");
}

TEST(OutputCapture, ALogInOneLine) {
  EXPECT_EQ(log_summary("EAL: FATAL: no memory \nEAL: no memory\n\nEAL: really\n"),
            "no memory; really");
  EXPECT_EQ(log_summary(""), "");
  const std::string summary = log_summary(std::string(1'000, 'x') + "\nthe reason");
  EXPECT_LT(summary.size(), 410u);
  EXPECT_TRUE(summary.ends_with("the reason"));
}

// DPDK starts once in a process, so each try has one of its own.
std::string failing_start(const EalOptions& options) {
  int channel[2];
  EXPECT_EQ(pipe(channel), 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDERR_FILENO);
    dup2(channel[1], STDOUT_FILENO);
    const auto eal = Eal::start(options);
    const std::string said =
        eal.ok() ? "started" : eal.errors().front().path + ": " + eal.errors().front().message;
    std::fprintf(stderr, "[%s]", said.c_str());
    _exit(0);
  }
  close(channel[1]);
  std::string all;
  std::array<char, 4096> piece{};
  ssize_t bytes = 0;
  while ((bytes = read(channel[0], piece.data(), piece.size())) > 0)
    all.append(piece.data(), static_cast<std::size_t>(bytes));
  close(channel[0]);
  waitpid(child, nullptr, 0);
  return all;
}

TEST_F(Runtime, AStartThatFailsPrintsNothingAndNamesTheField) {
  EalOptions options{.name = "se1", .worker_cores = {}, .hugepages = false, .memory_mb = 64};
  options.extra = {"-v", "--socket-limit=abc"};
  const std::string wrong_value = failing_start(options);
  EXPECT_TRUE(wrong_value.starts_with("[/eal/1: DPDK did not start: ")) << wrong_value;
  EXPECT_EQ(wrong_value.find("sage"), std::string::npos) << wrong_value;
  options.extra = {"--log-level=error", "-d", file("absent.so")};
  const std::string no_driver = failing_start(options);
  EXPECT_TRUE(no_driver.starts_with("[/eal/2: DPDK did not start: ")) << no_driver;
  // Even what no check looked at before.
  options.extra = {"--no-such-option"};
  const std::string unknown = failing_start(options);
  EXPECT_TRUE(unknown.starts_with("[") && unknown.ends_with("]")) << unknown;
  EXPECT_EQ(unknown.find("sage"), std::string::npos) << unknown;
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "dpdk"));
}

TEST_F(Runtime, TheSecondEngineOfANameDoesNotStart) {
  const auto first = take();
  ASSERT_TRUE(first.ok());
  const std::string second = failing_start(
      {.name = "se1", .worker_cores = {}, .hugepages = false, .memory_mb = 64, .extra = {}});
  EXPECT_TRUE(second.starts_with("[/name: an engine named \"se1\" runs on this host")) << second;
  const std::string replay = failing_start({.name = "se1",
                                            .replay = true,
                                            .worker_cores = {},
                                            .hugepages = false,
                                            .memory_mb = 64,
                                            .extra = {}});
  EXPECT_EQ(replay, "[started]");
}

}  // namespace
}  // namespace limpet::port
