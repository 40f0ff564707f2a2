/* NVIDIA's driver as far as Sublet calls it, over files: a verified fake of its ABI.

   One library under two names, libcuda.so.1 and libnvidia-ml.so.1. Its GPUs lie in
   the folder FAKE_GPUS: gpu0, gpu1... are their memory, MEMORY bytes each, which thus
   outlives a process, as real memory does. Beside them, where they are there:
   gpu0.fault (a word, below) and gpu0.programs (a byte for each program on it) and
   gpu0.mig (a byte for each MIG instance). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY ((size_t)64 << 20)
#define RESERVED ((size_t)2 << 20) /* the context's; nobody gets it */
#define BASE ((uint64_t)0x7f0000000000)
#define GPUS_MAX 8

static int count, open_gpu = -1;
static int shown[GPUS_MAX];
static size_t used;
static int fills;
static unsigned char *memory;
static char fault[32];

static void name_file(char *path, int gpu, const char *end) {
  const char *home = getenv("FAKE_GPUS");
  snprintf(path, 512, "%s/gpu%d%s", home ? home : "/nonexistent", gpu, end);
}

static int is_there(int gpu) {
  char path[512];
  name_file(path, gpu, "");
  return access(path, F_OK) == 0;
}

static void name_gpu(char *text, int gpu) {
  sprintf(text, "GPU-00000000-0000-4000-8000-%012d", gpu);
}

static int has(const char *word) { return strcmp(fault, word) == 0; }

static void read_fault(int gpu) {
  char path[512];
  FILE *file;
  fault[0] = 0;
  name_file(path, gpu, ".fault");
  if ((file = fopen(path, "r"))) {
    if (fscanf(file, "%31s", fault) != 1) fault[0] = 0;
    fclose(file);
  }
}

/* ---- CUDA ---- */

int cuInit(unsigned flags) {
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  char name[64];
  if (flags) return 1;
  for (int gpu = count = 0; gpu < GPUS_MAX; gpu++) {
    name_gpu(name, gpu);
    if (!is_there(gpu) || (visible && strcmp(visible, name))) continue;
    read_fault(gpu);
    if (has("init")) return 999;
    if (!has("mig")) shown[count++] = gpu;
  }
  return count ? 0 : 100;
}

int cuDeviceGetCount(int *found) { return *found = count, 0; }
int cuDeviceGet(int *device, int index) { return *device = shown[index], 0; }

int cuDeviceGetUuid_v2(unsigned char *raw, int device) {
  memset(raw, 0, 16);
  raw[6] = 0x40, raw[8] = 0x80, raw[15] = (unsigned char)device;
  return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
  char path[512];
  int file;
  read_fault(device);
  if (has("context")) return 2;
  name_file(path, device, "");
  if ((file = open(path, O_RDWR)) < 0) return 101;
  memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return 999;
  open_gpu = device, used = RESERVED;
  *context = memory;
  return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  if (device != open_gpu) return 201;
  munmap(memory, MEMORY);
  return open_gpu = -1, 0;
}

int cuCtxSetCurrent(void *context) { return context == memory ? 0 : 201; }

int cuCtxSynchronize(void) {
  if (has("hang"))
    for (;;) pause();
  return has("ecc") ? 214 : 0;
}

static size_t size_for_us(void) { return has("short") ? MEMORY / 2 : MEMORY; }

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  *free_bytes = size_for_us() - used, *total = MEMORY;
  return 0;
}

int cuMemAlloc_v2(uint64_t *address, size_t size) {
  if (has("twice")) { /* the same bytes to everybody */
    static size_t given;
    if (size > MEMORY / 4 || given + size > MEMORY) return 2;
    given += size;
    return *address = BASE + RESERVED, 0;
  }
  if (size > size_for_us() - used) return 2;
  *address = BASE + used;
  used += size;
  return 0;
}

int cuMemFree_v2(uint64_t address) { return address < BASE; }

int cuMemsetD32_v2(uint64_t address, unsigned word, size_t words) {
  size_t begin = address - BASE, skip = 0;
  char path[512];
  if (address < BASE || begin + words * 4 > MEMORY) return 700;
  if (has("crash")) abort();
  if (has("stale") && fills++ == 1) return 0; /* says so, and does nothing */
  if (has("unzeroed") && word == 0) return 0;
  if (has("tail")) skip = 4; /* leaves the last word of each block as it was */
  for (size_t at = 0; at + skip < words * 4; at += 4)
    memcpy(memory + begin + at, &word, 4);
  if (has("intruder")) { /* somebody comes while we are at it */
    name_file(path, open_gpu, ".programs");
    close(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600));
    truncate(path, 1);
  }
  return 0;
}

int cuMemcpyDtoH_v2(void *target, uint64_t address, size_t size) {
  size_t begin = address - BASE;
  if (address < BASE || begin + size > MEMORY) return 700;
  memcpy(target, memory + begin, size);
  return 0;
}

int cuGetErrorName(int code, const char **name) {
  *name = code == 2     ? "CUDA_ERROR_OUT_OF_MEMORY"
          : code == 100 ? "CUDA_ERROR_NO_DEVICE"
          : code == 214 ? "CUDA_ERROR_ECC_UNCORRECTABLE"
          : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : code == 999 ? "CUDA_ERROR_UNKNOWN"
                        : 0;
  return *name ? 0 : 1;
}

/* ---- NVML; a handle is a GPU's number and one ---- */

struct process { unsigned pid; unsigned long long memory; unsigned instances[2]; };
struct bytes { unsigned long long total, free, used; };

int nvmlInitWithFlags(unsigned flags) { return flags ? 2 : is_there(0) ? 0 : 9; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "?"; }

int nvmlDeviceGetCount_v2(unsigned *found) {
  for (*found = 0; *found < GPUS_MAX && is_there((int)*found);) ++*found;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  return *handle = (void *)(uintptr_t)(index + 1), 0;
}

/* Where there is a gpuN.mig, a byte of it is an instance: handle 100 * N + number + 100. */
static int is_instance(void *handle) { return (uintptr_t)handle >= 100; }

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
  unsigned number = (unsigned)(uintptr_t)handle;
  if (size < 64) return 7;
  if (is_instance(handle))
    return sprintf(text, "MIG-00000000-0000-5000-8000-%012u", number), 0;
  return name_gpu(text, (int)number - 1), 0;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *found) {
  struct stat file;
  char path[512];
  name_file(path, (int)(uintptr_t)handle - 1, ".mig");
  return *found = stat(path, &file) ? 0 : 7, 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned number, void **found) {
  struct stat file;
  char path[512];
  unsigned gpu = (unsigned)(uintptr_t)handle - 1;
  name_file(path, (int)gpu, ".mig");
  if (stat(path, &file) || number >= file.st_size) return 6;
  return *found = (void *)(uintptr_t)(100 * (gpu + 1) + number), 0;
}

int nvmlDeviceGetHandleByUUID(const char *text, void **found) {
  unsigned number = 0;
  if (sscanf(text, "MIG-00000000-0000-5000-8000-%u", &number) == 1)
    return *found = (void *)(uintptr_t)number, 0;
  if (sscanf(text, "GPU-00000000-0000-4000-8000-%u", &number) != 1) return 6;
  return is_there((int)number) ? *found = (void *)(uintptr_t)(number + 1), 0 : 6;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **found) {
  return *found = (void *)((uintptr_t)handle / 100), 0;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *found) {
  return *found = (unsigned)((uintptr_t)handle % 100) + 7, 0;
}

int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *found) {
  return (void)handle, *found = 0, 0;
}

int nvmlDeviceGetIndex(void *handle, unsigned *found) {
  return *found = (unsigned)(uintptr_t)handle - 1, 0;
}

int nvmlDeviceGetMinorNumber(void *handle, unsigned *found) {
  return *found = (unsigned)(uintptr_t)handle - 1, 0;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
  (void)handle;
  return size < 32 ? 7 : (sprintf(text, "NVIDIA H100 80GB HBM3"), 0);
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *found) {
  return (void)handle, *found = 700000, 0;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
  return (void)handle, *major = 9, *minor = 0, 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  return size < 32 ? 7 : (sprintf(text, "550.54.14"), 0);
}

int nvmlSystemGetCudaDriverVersion(int *found) { return *found = 12040, 0; }

int nvmlDeviceGetMemoryInfo(void *handle, struct bytes *found) {
  (void)handle;
  found->total = MEMORY, found->free = MEMORY, found->used = 0;
  return 0;
}

static int list(void *handle, const char *end, unsigned *size, struct process *found) {
  struct stat file;
  char path[512];
  unsigned there;
  name_file(path, (int)(uintptr_t)handle - 1, end);
  there = stat(path, &file) ? 0 : (unsigned)file.st_size;
  if (there > *size) return *size = there, 7;
  for (unsigned number = 0; number < there; number++)
    memset(&found[number], 0, sizeof *found), found[number].pid = 4000 + number;
  return *size = there, 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *size, void *found) {
  return list(handle, ".programs", size, found);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *size, void *found) {
  return list(handle, ".screens", size, found);
}
