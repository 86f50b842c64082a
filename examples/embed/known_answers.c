/* Reproduces a bundle's known answers through ONNX Runtime's C API: no Python, no Pillow.
 *
 *     python -m export c-array BUNDLE --output c
 *     cc -I c -o known_answers known_answers.c -L DIR -lonnxruntime -lm
 *     ./known_answers BUNDLE/model.onnx OFFSET
 *
 * OFFSET is the logit_offset of model.onnx in manifest.json (model.h has that of model.tflite).
 * Exit status 0 if every answer is met. A program of your own prepares its pixels as described in
 * docs/embedding.md and calls the same functions.
 */
#include "known_answers.h"
#include "model.h"
#include "ort_abi.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const OrtApi *ort;

static void must(OrtStatus *status)
{
    if (status) {
        fprintf(stderr, "ONNX Runtime: %s\n", ort->GetErrorMessage(status));
        exit(2);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s model.onnx OFFSET\n", argv[0]);
        return 2;
    }
    const double offset = atof(argv[2]);
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) {
        fprintf(stderr, "this library is older than the header\n");
        return 2;
    }
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtMemoryInfo *memory;
    must(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "cxr-edge", &environment));
    must(ort->CreateSessionOptions(&options));
    must(ort->SetIntraOpNumThreads(options, 1));
    must(ort->CreateSession(environment, argv[1], options, &session));
    must(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

    const int64_t shape[4] = {1, CXR_INPUT_HEIGHT, CXR_INPUT_WIDTH, 1};
    const char *inputs[] = {"image"}, *outputs[] = {"map"};
    int failed = 0;
    for (int i = 0; i < CXR_KNOWN_ANSWERS; i++) {
        OrtValue *pixels = NULL, *map = NULL;
        must(ort->CreateTensorWithDataAsOrtValue(memory, (void *)cxr_known_tensors[i],
                                                 sizeof cxr_known_tensors[i], shape, 4,
                                                 ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &pixels));
        must(ort->Run(session, NULL, inputs, (const OrtValue *const *)&pixels, 1, outputs, 1,
                      &map));
        float *values;
        must(ort->GetTensorMutableData(map, (void **)&values));
        const int count = CXR_MAP_ROWS * CXR_MAP_COLUMNS;
        double logit = offset;
        for (int k = 0; k < count; k++)
            logit += values[k * CXR_MAP_UNITS] / count;
        const double expected = cxr_logits_onnxruntime[i][0];
        const double probability = 1 / (1 + exp(-logit / CXR_TEMPERATURE));
        const int met = fabs(logit - expected) <= CXR_TOLERANCE_onnxruntime;
        printf("answer %d: logit %.5f, expected %.5f, probability %.4f: %s\n", i, logit, expected,
               probability, met ? "met" : "NOT MET");
        failed += !met;
    }
    return failed ? 1 : 0;
}
