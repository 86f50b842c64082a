/* A plugin for QEMU's user-mode emulation: how many instructions of the guest ran between marks.

   A mark is a system call whose first argument is 0x00C0FFEE plus the mark's number: os.getpgid of
   a process that cannot be, which nothing else asks for. At each mark one line, "number count", is
   appended to the file that the plugin's argument names; count is since the last mark, all threads.

   Only functions that every QEMU with plugins has (7 to 10) are declared, for Debian packages no
   header. Source: QEMU documentation, "QEMU TCG Plugins". */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif
#define FIRST_MARK 0x00C0FFEEu
#define MARKS 64u

typedef uint64_t plugin_id;
struct qemu_plugin_tb;

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    plugin_id id, void (*call)(plugin_id, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*call)(unsigned, void *), int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id id, void (*call)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

static uint64_t executed;
static char path[4096];

static void block_runs(unsigned cpu, void *length) {
    (void)cpu;
    __atomic_fetch_add(&executed, (uint64_t)(uintptr_t)length, __ATOMIC_RELAXED);
}

static void block_is_translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, block_runs, 0,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2,
                        uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                        uint64_t a8) {
    (void)id, (void)cpu, (void)number, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7,
        (void)a8;
    if (a1 < FIRST_MARK || a1 >= FIRST_MARK + MARKS) return;
    uint64_t count = __atomic_exchange_n(&executed, 0, __ATOMIC_RELAXED);
    FILE *file = fopen(path, "a");
    if (file == NULL) return;
    fprintf(file, "%u %llu\n", (unsigned)(a1 - FIRST_MARK), (unsigned long long)count);
    fclose(file);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info,
                                                               int count, char **arguments) {
    (void)info;
    if (count != 1 || strncmp(arguments[0], "to=", 3) != 0) {
        fprintf(stderr, "count.c: needs one argument, to=FILE\n");
        return 1;
    }
    snprintf(path, sizeof path, "%s", arguments[0] + 3);
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_is_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
