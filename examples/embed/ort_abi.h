/* The few entries of ONNX Runtime's function table that the example calls, for machines that have
 * the library (every Python wheel does) and not its header. Entries are only ever appended to the
 * table, so these positions hold for every version since 1.0. With the header installed, it is used
 * instead.
 */
#ifndef CXR_ORT_ABI_H
#define CXR_ORT_ABI_H
#if defined(__has_include)
#if __has_include(<onnxruntime_c_api.h>)
#define CXR_HAVE_ORT_HEADER 1
#include <onnxruntime_c_api.h>
#endif
#endif

#ifndef CXR_HAVE_ORT_HEADER
#include <stddef.h>
#include <stdint.h>
typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtRunOptions OrtRunOptions;
enum { ORT_LOGGING_LEVEL_WARNING = 2, OrtArenaAllocator = 1, OrtMemTypeDefault = 0 };
enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2 };
#define ORT_API_VERSION 1

typedef struct OrtApi {
    void *skipped_0_1[2];
    const char *(*GetErrorMessage)(const OrtStatus *);                                   /* 2 */
    OrtStatus *(*CreateEnv)(int level, const char *name, OrtEnv **out);                  /* 3 */
    void *skipped_4_6[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path,
                                const OrtSessionOptions *, OrtSession **out);            /* 7 */
    void *skipped_8[1];
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *inputs,
                      const OrtValue *const *values, size_t input_count,
                      const char *const *outputs, size_t output_count, OrtValue **out);  /* 9 */
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **out);                         /* 10 */
    void *skipped_11_23[13];
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);                        /* 24 */
    void *skipped_25_48[24];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t bytes,
                                                 const int64_t *shape, size_t rank, int type,
                                                 OrtValue **out);                        /* 49 */
    void *skipped_50[1];
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **out);                          /* 51 */
    void *skipped_52_68[17];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **out);   /* 69 */
    void *skipped_70_95[26];
    void (*ReleaseValue)(OrtValue *);                                                    /* 96 */
} OrtApi;
typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;
const OrtApiBase *OrtGetApiBase(void);
#endif
#endif
